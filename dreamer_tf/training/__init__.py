"""A run: acting and learning, evaluation, checkpoints, logs."""
