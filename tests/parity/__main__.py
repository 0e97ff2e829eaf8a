"""Command line: `python -m tests.parity FILE.npz [FILE …]`. See `__init__.py`."""

import argparse
import contextlib
import importlib
import sys

import numpy as np

from tests.parity.common import Row, Run, read_config


def compare(path: str, eager: bool = False, jit: bool = False) -> list[Row]:
    """Rows of one golden file of any version."""
    with np.load(path, allow_pickle=False) as data:
        config = read_config(data)
        module = importlib.import_module(f"tests.parity.{_version(config)}")
        with _eagerly(eager):
            return module.compare(data, config, Run(eager, jit))


def _version(config: dict) -> str:
    if "game" in config:
        return "atari"
    if "achievement_names" in config:
        return "crafter"
    if "official_commit" in config:
        return "v3"
    return "v2" if "fixture" in config else "v1"


@contextlib.contextmanager
def _eagerly(eager: bool):
    if not eager:
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE.npz")
    parser.add_argument(
        "--eager", action="store_true", help="without compilation (TensorFlow)"
    )
    parser.add_argument("--jit", action="store_true", help="with XLA (TensorFlow)")
    parser.add_argument(
        "--summary", action="store_true", help="one row per group, the worst"
    )
    args = parser.parse_args()
    passed = failed = 0
    for path in args.files:
        rows = compare(path, args.eager, args.jit)
        print(f"\n{path}")
        for row in _worst(rows) if args.summary else rows:
            verdict = "ok" if row.ok else "FAILED"
            print(
                f"  {row.group:<12} {row.name:<42} "
                f"{row.error:9.1e}  {row.tolerance:9.1e}  {verdict}"
            )
        passed += sum(row.ok for row in rows)
        failed += sum(not row.ok for row in rows)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


def _worst(rows: list[Row]) -> list[Row]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)

    def badness(row):
        # Some rows must be exact: their tolerance is 0.
        return (not row.ok, row.error / row.tolerance if row.tolerance else 0.0)

    return [max(group, key=badness) for group in groups.values()]


if __name__ == "__main__":
    sys.exit(main())
