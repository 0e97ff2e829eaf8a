"""The families of environments, which are told by how a task's name begins."""

# A task's name begins with that of its family and "_"; that of a single task is the
# whole name too. All other tasks are of dm_control ("dmc").
FAMILIES = ("atari", "bsuite", "catch", "crafter", "gym", "minatar", "toy")
SINGLE = ("catch", "toy")


def family(task: str) -> str:
    """One of `FAMILIES`, or "dmc"."""
    start, more, _ = task.partition("_")
    return start if start in FAMILIES and (more or start in SINGLE) else "dmc"
