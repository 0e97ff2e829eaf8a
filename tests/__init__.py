"""Set before a backend is loaded: float32 is multiplied as it is, on a GPU too.

A GPU would round the factors to TF32, which has 11 significant bits. `python -m
tests.parity` comes by here as well, unlike by conftest.py.
"""

import os

os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
