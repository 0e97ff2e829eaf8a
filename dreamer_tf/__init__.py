"""DreamerV1, V2 and V3 behind one interface.

Imports are lazy, so that tools that need no network (environments, reports)
start without a deep-learning framework.
"""

import importlib
import os

# TensorFlow reports its own start (on a machine without a GPU also as errors). It reads
# this when it is loaded; "0" shows everything.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_WHERE = {
    "make_agent": "dreamer_tf.agent",
    "load_agent": "dreamer_tf.training.load",
    "make_env": "dreamer_tf.envs",
    "presets": "dreamer_tf.configs.presets",
}

__all__ = ["load_agent", "make_agent", "make_env", "presets"]


def __getattr__(name: str):
    if name not in _WHERE:
        raise AttributeError(f"module 'dreamer_tf' has no attribute '{name}'")
    module = importlib.import_module(_WHERE[name])
    return module if name == "presets" else getattr(module, name)
