"""Frozen dataclasses that are at once the settings, the flags and their help.

A field's comment (on its line, or on the lines directly above) is the help text
of its flag; nesting gives dotted names: `dyn: Dyn` with `deter: int` becomes
`--dyn.deter`. This module imports no backend.
"""

import ast
import contextlib
import dataclasses
import difflib
import functools
import inspect
import io
import operator
import sys
import tokenize
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeVar

from absl import flags

from dreamer_tf.errors import UserError

C = TypeVar("C")  # a frozen dataclass


# --- Walking and checking ---------------------------------------------------


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yields (dotted name, type hint, value) of every field that is not nested."""
    for name, hint in _hints(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, hint, value


def validate(config: Any) -> None:
    """Calls `validate()` of the dataclass and of every nested one, inner first."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            validate(value)
    if hasattr(config, "validate"):
        config.validate()


def limit(
    config: Any,
    names: str,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> None:
    """Refuses values out of range; of a list, every entry counts.

    Args:
      names: dotted, with spaces between them.

    Raises:
      UserError: names the first one that is out of range.
    """
    for name in names.split():
        value = operator.attrgetter(name)(config)
        for number in value if isinstance(value, tuple) else (value,):
            limits = {
                "at least": (at_least, operator.ge),
                "above": (above, operator.gt),
                "at most": (at_most, operator.le),
                "below": (below, operator.lt),
            }
            given = [(w, end, ok) for w, (end, ok) in limits.items() if end is not None]
            if not all(ok(number, end) for _, end, ok in given):
                wanted = " and ".join(f"{words} {end}" for words, end, _ in given)
                raise UserError(f"{name} is {number}; it must be {wanted}.")


def updated(config: C, changes: Mapping[str, Any]) -> C:
    """A copy with dotted fields replaced: `updated(c, {"dyn.deter": 512})`.

    Values are checked against the field's type (1e6 is a whole number, a list
    serves as a tuple); ranges are checked last, on the finished copy.

    Raises:
      UserError: unknown name, wrong type, or a value out of range.
    """
    known = {name: hint for name, hint, _ in leaves(config)}
    checked = {}
    for name, value in changes.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean '{close[0]}'?" if close else "there is none like it."
            raise UserError(f"Unknown setting '{name}': {hint}")
        checked[name] = _convert(name, known[name], value)
    result = _replace(config, checked)
    validate(result)
    return result


def to_dict(config: Any) -> dict[str, Any]:
    """Nested dict of JSON types; tuples become lists."""
    return {
        field.name: _plain(getattr(config, field.name))
        for field in dataclasses.fields(config)
    }


def from_dict(default: C, data: Mapping[str, Any]) -> C:
    """Inverse of `to_dict`; fields that `data` lacks are those of `default`.

    Raises:
      UserError: unknown name, wrong type, or a value out of range.
    """
    return updated(default, _flat(default, data))


def _flat(default: Any, data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise UserError(
            f"Setting '{prefix[:-1]}' must be a group of settings, got {data!r}."
        )
    result: dict[str, Any] = {}
    for name, value in data.items():
        nested = getattr(default, name, None)
        if dataclasses.is_dataclass(nested):
            result |= _flat(nested, value, f"{prefix}{name}.")
        else:
            result[prefix + name] = value
    return result


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    return list(value) if isinstance(value, tuple) else value


def _replace(config: C, changes: Mapping[str, Any], prefix: str = "") -> C:
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        value, name = getattr(config, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            fields[field.name] = _replace(value, changes, name + ".")
        elif name in changes:
            fields[field.name] = changes[name]
    return dataclasses.replace(config, **fields)  # type: ignore[type-var]


# --- Types -------------------------------------------------------------------


def _hints(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _optional(hint: Any) -> tuple[Any, bool]:
    """Splits `X | None` into (X, True); anything else is (hint, False)."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        if len(inner) == 1:
            return inner[0], True
        raise TypeError(f"A setting has one type, or one type and None, not {hint}.")
    return hint, False


def _expects(hint: Any) -> str:
    inner, optional = _optional(hint)
    if typing.get_origin(inner) is Literal:
        text = "one of " + ", ".join(map(str, typing.get_args(inner)))
    elif typing.get_origin(inner) is tuple:
        text = f"a comma-separated list, each {_expects(typing.get_args(inner)[0])}"
    else:
        names = {int: "a whole number", float: "a finite number", str: "a text"}
        text = names.get(inner, "true or false")
    return text + " or none" if optional else text


def _convert(name: str, hint: Any, value: Any) -> Any:
    """`value` as the field's type; UserError with the field's name otherwise."""
    inner, optional = _optional(hint)
    if value is None and optional:
        return None
    wrong = UserError(f"Setting '{name}' must be {_expects(hint)}, got {value!r}.")
    if typing.get_origin(inner) is Literal:
        if value not in typing.get_args(inner):
            raise wrong
        return value
    if typing.get_origin(inner) is tuple:
        item = typing.get_args(inner)[0]
        if not isinstance(value, list | tuple):
            raise wrong
        return tuple(_convert(name, item, entry) for entry in value)
    if inner in (int, float):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not abs(value) <= sys.float_info.max:  # nan neither
            raise wrong
        if inner is int and value != int(value):
            raise wrong
        return inner(value)
    if not isinstance(value, inner):
        raise wrong
    return value


def _parse(name: str, hint: Any, text: str) -> Any:
    """A flag's text as the field's type."""
    inner, optional = _optional(hint)
    if optional and text.lower() in ("none", ""):
        return None
    if typing.get_origin(inner) is tuple:
        item = typing.get_args(inner)[0]
        return tuple(_parse(name, item, part) for part in text.split(",") if part)
    value: Any = text
    if typing.get_origin(inner) is Literal:
        value = {str(choice): choice for choice in typing.get_args(inner)}.get(text)
    elif inner in (int, float):
        for number in (inner, float):  # the second reads 1e6 for a whole number
            with contextlib.suppress(ValueError):
                value = number(text)
                break
    return _convert(name, inner, value)


# --- Flags -------------------------------------------------------------------


class _Parser(flags.ArgumentParser):
    def __init__(self, name: str, hint: Any):
        self.name, self.hint = name, hint
        self.syntactic_help = _expects(hint)

    def parse(self, argument: Any) -> Any:
        if not isinstance(argument, str):
            return argument  # a default, already of the field's type
        try:
            return _parse(self.name, self.hint, argument)
        except UserError:
            raise ValueError(f"it must be {_expects(self.hint)}.") from None

    def flag_type(self) -> str:
        return _expects(self.hint)


class _AtLeast(_Parser):
    def __init__(self, name: str, hint: Any, lowest: float):
        super().__init__(name, hint)
        self.lowest = lowest

    def parse(self, argument: Any) -> Any:
        value = super().parse(argument)
        if value < self.lowest:
            raise ValueError(f"it must be at least {self.lowest}.")
        return value


class _Serializer(flags.ArgumentSerializer):
    def serialize(self, value: Any) -> str:
        return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


class _Switch(flags.BooleanFlag):
    def _parse(self, argument: Any) -> bool | None:
        try:
            return super()._parse(argument)
        except flags.IllegalFlagValueError:
            raise flags.IllegalFlagValueError(
                f"flag --{self.name}={argument}: it must be true or false."
            ) from None


def define_number(
    name: str,
    default: float | None,
    text: str,
    lower_bound: float,
    flag_values: flags.FlagValues = flags.FLAGS,
    module_name: str | None = None,
    kind: type = int,
) -> None:
    """Defines a flag that is no field; its mistakes read like those of fields."""
    parser = _AtLeast(name, kind, lower_bound)
    flag = flags.Flag(parser, _Serializer(), name, default, text)
    # As the script's own, else its --help would leave it out.
    flags.DEFINE_flag(flag, flag_values, module_name or sys.argv[0])


def parser(name: str) -> Callable[[list[str]], list[str]]:
    """For `app.run` of a script: its mistakes in flags are one line, as of `run.py`."""

    def parse(argv: list[str]) -> list[str]:
        try:
            return flags.FLAGS(argv)
        except (flags.Error, ValueError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            sys.exit(2)

    return parse


def define_flags(config: Any, flag_values: flags.FlagValues, section: str) -> None:
    """Defines one flag per field, the config's values as defaults.

    `section` is the heading under which `--helpfull` lists them.
    """
    texts = helps(config)
    for name, hint, value in leaves(config):
        inner, _ = _optional(hint)
        if inner is bool:
            flag: flags.Flag = _Switch(name, value, texts[name])
        elif typing.get_origin(hint) is Literal and isinstance(value, str):
            choices = typing.get_args(hint)
            flag = flags.EnumFlag(name, value, texts[name], choices)
        else:
            parser, serializer = _Parser(name, hint), _Serializer()
            flag = flags.Flag(parser, serializer, name, value, texts[name])
        flags.DEFINE_flag(flag, flag_values, section)


def from_flags(config: C, flag_values: flags.FlagValues) -> C:
    """The config with every field replaced by its parsed flag, ranges checked."""
    return updated(
        config, {name: flag_values[name].value for name, *_ in leaves(config)}
    )


def helps(config: Any, prefix: str = "") -> dict[str, str]:
    """Dotted name -> the field's comment in the source."""
    comments = _comments(type(config))  # type: ignore[arg-type]
    texts: dict[str, str] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            texts |= helps(value, f"{prefix}{field.name}.")
        else:
            texts[prefix + field.name] = comments.get(field.name, "")
    return texts


@functools.cache  # reading a source file takes a while
def _comments(cls: Any) -> dict[str, str]:
    """Field -> comment, from the class's source and that of its bases."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if hasattr(base, "__dataclass_fields__"):
            found |= _comments_in(inspect.cleandoc("\n" + inspect.getsource(base)))
    return found


def _comments_in(source: str) -> dict[str, str]:
    own_line: dict[int, str] = {}
    same_line: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            alone = token.line.strip().startswith("#")
            text = token.string.lstrip("#").strip()
            (own_line if alone else same_line)[token.start[0]] = text
    found = {}
    for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first, last = node.lineno, node.end_lineno or node.lineno
            while first - 1 in own_line:
                first -= 1
            rows = range(first, last + 1)
            both = own_line | same_line
            found[node.target.id] = " ".join(both[row] for row in rows if row in both)
    return found
