"""Settings as data: frozen dataclasses that are also the flags and their help."""
