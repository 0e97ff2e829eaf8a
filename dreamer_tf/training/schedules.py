"""When a run acts at random and when it makes updates, as each paper's code does."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass
class Progress:
    """How far a run is: what a schedule decides by."""

    records: int = 0  # rows added to replay, including the first ones of episodes
    decisions: int = 0  # actions executed in training environments
    frames: int = 0  # decisions times action repeat
    episodes: int = 0  # finished training episodes
    finished_frames: int = 0  # frames of finished training episodes
    items: int = 0  # sequences that can be sampled from replay


def make_schedule(version: str, config: Any) -> "Schedule":
    """The schedule of a version: "v1", "v2" or "v3", with the version's settings."""
    return _SCHEDULES[version](config)


class Schedule(abc.ABC):
    """Says when to act at random and how many updates to make.

    Args:
      config: the version's settings.
    """

    def __init__(self, config: Any):
        self.config = config
        self.previous: float | None = None  # count at which updates were last due

    @abc.abstractmethod
    def random(self, progress: Progress) -> bool:
        """Whether to act at random."""

    @abc.abstractmethod
    def updates(self, progress: Progress) -> int:
        """Number of updates due; to be called once after every record."""

    def state_dict(self) -> dict[str, Any]:
        """What a continued run needs."""
        return {"previous": self.previous}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from `state_dict`."""
        self.previous = state["previous"]


class ScheduleV1(Schedule):
    """DreamerV1: `train_steps` updates whenever `train_every` frames have passed.

    The official agent makes one update to create its variables and `pretrain` more
    when it first acts. With episodes of 1000 frames, later updates fall between two
    episodes (or before the first action of an evaluation, which is the same).
    """

    def random(self, progress: Progress) -> bool:
        """Until finished episodes have `prefill` frames."""
        return progress.finished_frames < self.config.prefill

    def updates(self, progress: Progress) -> int:
        c = self.config
        if self.random(progress) or not progress.items:
            return 0
        if self.previous is None:
            self.previous = progress.frames
            return 1 + c.pretrain
        if progress.frames < self.previous + c.train_every:
            return 0
        self.previous += c.train_every
        return c.train_steps


class ScheduleV2(Schedule):
    """DreamerV2: `train_steps` updates for every `train_every` decisions.

    The official script makes one update to create its variables and `pretrain` more;
    later updates begin with the policy's first decision.
    """

    def random(self, progress: Progress) -> bool:
        """Until there are `prefill` decisions and a whole episode."""
        return progress.decisions < self.config.prefill or progress.episodes < 1

    def updates(self, progress: Progress) -> int:
        c = self.config
        if self.random(progress) or not progress.items:
            return 0
        if self.previous is None:
            # So that updates are due at the policy's first decision.
            self.previous = progress.decisions + 1 - c.train_every
            return 1 + c.pretrain
        if progress.decisions < self.previous + c.train_every:
            return 0
        self.previous += c.train_every
        return c.train_steps


class ScheduleV3(Schedule):
    """DreamerV3: `train_ratio` replayed steps for every collected record.

    One update replays `batch_size * batch_length` steps. The first one is due as
    soon as replay holds as many windows (official `elements.when.Ratio`).
    """

    def __init__(self, config: Any):
        super().__init__(config)
        self.need = config.batch_size * config.batch_length
        self.ratio = config.train_ratio / self.need

    def random(self, progress: Progress) -> bool:
        """Never: the untrained policy collects the first data."""
        return False

    def updates(self, progress: Progress) -> int:
        if progress.items < self.need or not self.ratio:
            return 0
        if self.previous is None:
            self.previous = progress.records
            return 1
        repeats = int((progress.records - self.previous) * self.ratio)
        self.previous += repeats / self.ratio
        return repeats


_SCHEDULES: dict[str, Callable[[Any], Schedule]] = {
    "v1": ScheduleV1,
    "v2": ScheduleV2,
    "v3": ScheduleV3,
}
