"""Observation entries chosen by name, by one rule for all tasks and versions."""

import re
from collections.abc import Collection, Mapping
from typing import TypeVar

from dreamer_tf.configs.ranges import RegularExpression
from dreamer_tf.errors import UserError

T = TypeVar("T")

NOT_CHOSEN = "not in --obs_keys"


def fits(name: str, obs_keys: str) -> bool:
    """Whether an entry is chosen.

    Args:
        name: of the entry.
        obs_keys: a regular expression that whole names fit, such as
            "position|velocity"; empty: all do.
    """
    return not obs_keys or re.fullmatch(obs_keys, name) is not None


def choose(
    entries: Mapping[str, T], obs_keys: str
) -> tuple[dict[str, T], dict[str, str]]:
    """Splits entries by name into the chosen ones, and {name: why not} of the others.

    Raises:
        UserError: none is chosen.
    """
    check_keys(obs_keys)
    chosen = {name: x for name, x in entries.items() if fits(name, obs_keys)}
    if not chosen:
        raise none_fits(obs_keys, entries)
    return chosen, dict.fromkeys(
        (name for name in entries if name not in chosen), NOT_CHOSEN
    )


def check_keys(obs_keys: str) -> None:
    """Refuses what is no regular expression."""
    RegularExpression().check("obs_keys", obs_keys, "")


def none_fits(obs_keys: str, names: Collection[str]) -> UserError:
    """The sentence about a choice of nothing."""
    return UserError(
        f"--obs_keys={obs_keys} fits none of the observation entries, which are "
        f"{', '.join(names)}."
    )
