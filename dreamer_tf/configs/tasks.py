"""The families of environments, which are told by how a task's name begins."""

# A name is that of the family, or begins with it and "_". All other tasks are of
# dm_control ("dmc"), whose names may begin with dmc_.
FAMILIES = ("atari", "bsuite", "catch", "crafter", "gym", "minatar", "toy")


def family(task: str) -> str:
    """One of `FAMILIES`, or "dmc"."""
    start = task.split("_")[0]
    return start if start in FAMILIES else "dmc"
