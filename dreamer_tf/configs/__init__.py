"""Settings as data: frozen dataclasses that are also the flags and their help."""

import importlib

from dreamer_tf.errors import UserError

VERSIONS = ("v1", "v2", "v3")


def config_class(version: str) -> type:
    """The `Config` of a version: "v1", "v2" or "v3".

    Raises:
      UserError: there is no such version.
    """
    if version not in VERSIONS:
        raise UserError(
            f"The version is '{version}'; choose from {', '.join(VERSIONS)}."
        )
    return importlib.import_module(f"dreamer_tf.configs.{version}").Config
