"""Ranges of settings as types: `deter: Count = 200` is a whole number from 1 on.

A type is `Annotated[int, Range(at_least=1)]` under a name of its own. A tuple's items
have their own type, `tuple[Count, ...]`, and every item is checked.
"""

import operator
import re
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from dreamer_tf.errors import UserError

# The sentence about a number out of range; a config class may have its own `SENTENCE`.
SENTENCE = "{name} is {value}; it must be {range}."

# What `keras.activations.get` accepts, so that settings are checked without Keras.
ACTIVATIONS = (
    *("celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid"),
    *("hard_silu", "hard_swish", "hard_tanh", "leaky_relu", "linear", "log_sigmoid"),
    *("log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu"),
    *("soft_shrink", "softmax", "softplus", "softsign", "sparse_plus"),
    *("sparse_sigmoid", "sparsemax", "squareplus", "swish", "tanh", "tanh_shrink"),
    "threshold",
)


class Rule(Protocol):
    """What an `Annotated` type demands of its value."""

    def check(self, name: str, value: Any, sentence: str) -> None:
        """Raises UserError, which names the setting, if the value does not fit."""


@dataclass(frozen=True)
class Range:
    """The limits of a number; None: no limit."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def __str__(self) -> str:
        return " and ".join(f"{words} {limit}" for words, limit, _ in self._limits())

    def check(self, name: str, value: Any, sentence: str = SENTENCE) -> None:
        if not all(fits(value, limit) for _, limit, fits in self._limits()):
            raise UserError(sentence.format(name=name, value=value, range=self))

    def _limits(self) -> list[tuple[str, float, Any]]:
        limits = [
            ("at least", self.at_least, operator.ge),
            ("above", self.above, operator.gt),
            ("at most", self.at_most, operator.le),
            ("below", self.below, operator.lt),
        ]
        return [(words, x, fits) for words, x, fits in limits if x is not None]


class NotEmpty:
    """At least one number in a list."""

    def check(self, name: str, value: Any, sentence: str) -> None:
        if not value:
            raise UserError(f"{name} is empty; it must have at least one number.")


class ActivationName:
    """A name in `keras.activations`, or "none"."""

    def check(self, name: str, value: Any, sentence: str) -> None:
        if value not in (*ACTIVATIONS, "none"):
            raise UserError(
                f"{name} is '{value}'; give a name of keras.activations, such as elu, "
                "relu or silu, or none."
            )


class RegularExpression:
    """A pattern that `re` can compile."""

    def check(self, name: str, value: Any, sentence: str) -> None:
        try:
            re.compile(value)
        except (re.error, OverflowError, RecursionError) as error:
            raise UserError(
                f"{name} is '{value}', which is no regular expression: {error}."
            ) from error


class Path:
    """A file or folder; in a flag `~` stands for the home directory, as in a shell."""

    def check(self, name: str, value: Any, sentence: str) -> None:
        """Any text is one."""


Count = Annotated[int, Range(at_least=1)]
CountOrZero = Annotated[int, Range(at_least=0)]
Positive = Annotated[float, Range(above=0)]
NonNegative = Annotated[float, Range(at_least=0)]
Share = Annotated[float, Range(at_least=0, at_most=1)]
ShareBelowOne = Annotated[float, Range(at_least=0, below=1)]
Percentage = Annotated[float, Range(at_least=0, at_most=100)]
Widths = tuple[Count, ...]
Stages = Annotated[tuple[Count, ...], NotEmpty()]
Activation = Annotated[str, ActivationName()]
Pattern = Annotated[str, RegularExpression()]
Folder = Annotated[str, Path()]


def split(hint: Any) -> tuple[Any, bool, tuple[Rule, ...]]:
    """A type hint as (plain type, whether None is allowed, rules)."""
    rules: tuple[Rule, ...] = ()
    optional = False
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        if len(inner) != 1:
            raise TypeError(
                f"A setting has one type, or one type and None, not {hint}."
            )
        hint, optional = inner[0], True
    if typing.get_origin(hint) is Annotated:
        hint, *found = typing.get_args(hint)
        rules = tuple(found)
    return hint, optional, rules


def check(name: str, hint: Any, value: Any, sentence: str = SENTENCE) -> None:
    """Checks a value against the rules in its type.

    Args:
      name: of the setting, for the error.
      hint: its type, with `Annotated`.
      value: of that type already.
      sentence: about a number out of range; a format string with name, value, range.

    Raises:
      UserError: the first rule that does not hold.
    """
    plain, _, rules = split(hint)
    if value is None:
        return
    if typing.get_origin(plain) is tuple:
        for item in value:
            check(name, typing.get_args(plain)[0], item, sentence)
    for rule in rules:
        rule.check(name, value, sentence)


def limits(hint: Any) -> str:
    """The ranges of a number or of a list's items, such as "at least 1"; or ""."""
    plain, _, rules = split(hint)
    if typing.get_origin(plain) is tuple:
        return limits(typing.get_args(plain)[0])
    return " and ".join(str(rule) for rule in rules if isinstance(rule, Range))
