"""Comparison with numbers recorded from the authors' code.

`python -m tests.parity FILE.npz …` rebuilds our agent with the sizes, flags and
weights of each file, replays its batch under its noise rule, and compares.
"""
