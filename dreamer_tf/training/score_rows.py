"""Lines of scores.csv: an episode each, from and to text."""

import csv
import dataclasses
import io
import math

KINDS = ("train", "eval", "eval_cmd")


@dataclasses.dataclass(frozen=True)
class Episode:
    """An episode has ended. Its fields are the columns of scores.csv."""

    frames: int  # of training when it ended
    score: float  # undiscounted sum of its rewards
    length: int  # decisions
    kind: str  # train, eval (during training) or eval_cmd (`run.py evaluate`)
    mode: str  # of the policy: train, eval or random
    env: int  # index of the environment
    episode: int  # index among the episodes of that environment and kind
    seed: int  # with which it was reset


COLUMNS = [field.name for field in dataclasses.fields(Episode)]
HEADER = ",".join(COLUMNS) + "\n"


def write(episode: Episode) -> str:
    """The line of an episode."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(dataclasses.astuple(episode))
    return text.getvalue()


def read(line: str) -> Episode | None:
    """The episode of a line; None if the line is damaged."""
    try:
        (values,) = csv.reader([line.strip()])
        frames, score, length, kind, mode, *rest = values
        numbers = [int(value) for value in (frames, length, *rest)]
        found = Episode(numbers[0], float(score), numbers[1], kind, mode, *numbers[2:])
    except (ValueError, TypeError, csv.Error):
        return None
    fits = all(0 <= number < 2**53 for number in numbers) and kind in KINDS
    return found if fits and math.isfinite(found.score) else None
