"""Tests keep no compiled programs: they change code that others would then find."""

import os

from dreamer_tf import programs

os.environ[programs.WHERE] = ""
