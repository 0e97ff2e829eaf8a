"""Frozen dataclasses that are at once the settings, the flags and their help.

A field's comment (on its line, or on the lines directly above) is the help text of
its flag. Its type says what it may be, see `ranges`. A field that is a dataclass is a
group, whose settings have dotted names: `dyn: Dyn` with `deter: int` is `--dyn.deter`.

A field that is a `Mapping[str, X]` gives its group open names: besides the group's own
settings it then has one for any other name, of type X. It is never shown itself: in
flags, files and changes the open names stand beside the group's own. With
`entries: Mapping[str, float]` in the group `loss_scales`, `--loss_scales.position=0.7`
is stored as `{"loss_scales": {..., "position": 0.7}}`.
"""

import ast
import contextlib
import dataclasses
import difflib
import functools
import inspect
import io
import operator
import os
import re
import sys
import tokenize
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

from absl import flags

from dreamer_tf import output
from dreamer_tf.configs import ranges
from dreamer_tf.errors import UserError

C = TypeVar("C")  # a frozen dataclass
ANY = "NAME"  # stands for an open name in the help


# --- Walking and checking ---------------------------------------------------


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yields (dotted name, type hint, value) of every setting, groups resolved."""
    for name, hint in _hints(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{name}.")
        elif _is_open(hint):
            for entry, item in value.items():
                yield prefix + entry, typing.get_args(hint)[1], item
        else:
            yield prefix + name, hint, value


def validate(config: Any) -> None:
    """Checks the range of every setting, then the rules across settings.

    The rules are the method `validate()` of a dataclass, if it has one; those of the
    inner groups come first.

    Raises:
      UserError: the first setting that is wrong.
    """
    sentence = getattr(config, "SENTENCE", ranges.SENTENCE)
    for name, hint, value in leaves(config):
        ranges.check(name, hint, value, sentence)
    _check_rules(config)


def _check_rules(config: Any) -> None:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            _check_rules(value)
    if hasattr(config, "validate"):
        config.validate()


def limit(config: Any, name: str, **limits: float) -> None:
    """Refuses a setting that is out of a range which depends on others.

    Args:
      name: dotted.
      limits: `at_least`, `above`, `at_most`, `below`, as of `ranges.Range`.
    """
    ranges.Range(**limits).check(name, operator.attrgetter(name)(config))


def updated(config: C, changes: Mapping[str, Any]) -> C:
    """A copy with settings replaced: `updated(c, {"dyn.deter": 512})`.

    Values are checked against the setting's type (1e6 is a whole number, a list
    serves as a tuple); ranges are checked last, on the finished copy.

    Raises:
      UserError: unknown name, wrong type, or a value out of range.
    """
    known = {name: hint for name, hint, _ in leaves(config)}
    groups = _open_groups(config)
    checked = {}
    for name, value in changes.items():
        hint = known.get(name) or _open_hint(name, groups)
        if hint is None:
            near = similar(name, known)
            text = f"did you mean '{near[0]}'?" if near else "there is none like it."
            raise UserError(f"Unknown setting '{name}': {text}")
        checked[name] = _convert(name, hint, value)
    result = _replace(config, checked)
    validate(result)
    return result


def to_dict(config: Any) -> dict[str, Any]:
    """Nested dict of JSON types; tuples become lists.

    A group of open names only is left out while it has none.
    """
    result: dict[str, Any] = {}
    for name, hint in _hints(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            if group := to_dict(value):
                result[name] = group
        elif _is_open(hint):
            result |= value
        else:
            result[name] = list(value) if isinstance(value, tuple) else value
    return result


def from_dict(default: C, data: Mapping[str, Any]) -> C:
    """Inverse of `to_dict`; settings that `data` lacks are those of `default`.

    Raises:
      UserError: unknown name, wrong type, or a value out of range.
    """
    return updated(default, _flat(default, data))


def _flat(default: Any, data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise UserError(
            f"Setting '{prefix[:-1]}' must be a group of settings, got {data!r}."
        )
    names = _hints(type(default))
    result: dict[str, Any] = {}
    for name, value in data.items():
        nested = getattr(default, name) if name in names else None
        if dataclasses.is_dataclass(nested):
            result |= _flat(nested, value, f"{prefix}{name}.")
        else:
            result[prefix + name] = value
    return result


def _replace(config: C, changes: Mapping[str, Any], prefix: str = "") -> C:
    hints = _hints(type(config))
    fields: dict[str, Any] = {}
    for field, hint in hints.items():
        value, name = getattr(config, field), prefix + field
        if dataclasses.is_dataclass(value):
            fields[field] = _replace(value, changes, name + ".")
        elif _is_open(hint):
            new = {
                name.removeprefix(prefix): item
                for name, item in changes.items()
                if name.startswith(prefix) and not _is_own(name, prefix, hints)
            }
            fields[field] = {**value, **new}
        elif name in changes:
            fields[field] = changes[name]
    return dataclasses.replace(config, **fields)  # type: ignore[type-var]


# --- Open names ---------------------------------------------------------------


def _is_open(hint: Any) -> bool:
    """Whether a field of this type holds the open names of its group."""
    return typing.get_origin(hint) is Mapping


def _is_own(name: str, prefix: str, hints: Mapping[str, Any]) -> bool:
    """Whether a dotted name is a setting of the group itself, not an open name."""
    own = name.removeprefix(prefix)
    return own in hints and not _is_open(hints[own])


def _open_groups(config: Any, prefix: str = "") -> dict[str, Any]:
    """Groups with open names: prefix of their settings, "loss_scales." -> type."""
    groups: dict[str, Any] = {}
    for name, hint in _hints(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            groups |= _open_groups(value, f"{prefix}{name}.")
        elif _is_open(hint):
            groups[prefix] = typing.get_args(hint)[1]
    return groups


def _open_hint(name: str, groups: Mapping[str, Any]) -> Any:
    """The type of an open name; None if its group has none."""
    for prefix, hint in groups.items():
        if name.startswith(prefix) and name != prefix:
            return hint
    return None


# --- Types -------------------------------------------------------------------


def _hints(cls: Any) -> dict[str, Any]:
    """Type of every field, with its ranges."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _expects(hint: Any) -> str:
    """What a value of this type is, for the end of "it must be"."""
    inner, optional, _ = ranges.split(hint)
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
    inner, optional, _ = ranges.split(hint)
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
    inner, optional, rules = ranges.split(hint)
    if any(isinstance(rule, ranges.Path) for rule in rules):
        return os.path.expanduser(text)
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
        texts = (_expects(hint), ranges.limits(hint))
        self.syntactic_help = ", ".join(text for text in texts if text)

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


def define_folder(
    name: str,
    default: str | None,
    text: str,
    flag_values: flags.FlagValues = flags.FLAGS,
    module_name: str | None = None,
) -> None:
    """Defines a flag for a path, that is no field: `~` is the home directory."""
    flag = flags.Flag(_Parser(name, ranges.Folder), _Serializer(), name, default, text)
    flags.DEFINE_flag(flag, flag_values, module_name or sys.argv[0])


def similar(name: str, known: Iterable[str]) -> list[str]:
    """Names that are meant by one that does not exist, best first; at most four.

    Across dots: "lr" finds "opt.lr", "dyn_deter" and "deter" find "dyn.deter".
    """
    known, words = list(known), re.split(r"[._-]", name.lower())
    same, end, inside = [], [], []
    for other in known:
        parts = re.split(r"[._-]", other.lower())
        if "".join(parts) == "".join(words):
            same.append(other)
        elif parts[-len(words) :] == words:
            end.append(other)
        elif any(parts[i : i + len(words)] == words for i in range(len(parts))):
            inside.append(other)
    return (same or end or inside or difflib.get_close_matches(name, known, 1))[:4]


def parse(
    flag_values: flags.FlagValues, argv: Sequence[str], known_only: bool = False
) -> list[str]:
    """Parses a command line; an unknown flag's error names those that are meant.

    Returns:
      The words that are no flags.
    """
    try:
        return flag_values(argv, known_only=known_only)
    except flags.UnrecognizedFlagError as error:
        if "Did you mean" in str(error):
            raise
        near = similar(error.flagname, flag_values)
        raise flags.UnrecognizedFlagError(error.flagname, suggestions=near) from error


def parser(name: str) -> Callable[[list[str]], list[str]]:
    """For `app.run` of a script: its mistakes in flags are one line, as of `run.py`."""

    def parse_all(argv: list[str]) -> list[str]:
        try:
            return parse(flags.FLAGS, argv)
        except (flags.Error, ValueError) as error:
            output.warn(f"{name}: {error}")
            sys.exit(2)

    return parse_all


def define_flags(
    config: Any,
    flag_values: flags.FlagValues,
    section: str,
    argv: Sequence[str] = (),
) -> None:
    """Defines one flag per setting, the config's values as defaults.

    Args:
      section: the heading under which `--helpfull` lists them.
      argv: the command line that will be parsed, whose open names become flags.
    """
    texts = helps(config)
    settings = {name: (hint, value) for name, hint, value in leaves(config)}
    given = [
        word.lstrip("-").split("=")[0]
        for word in flag_values.read_flags_from_files(list(argv))
        if word.startswith("-")
    ]
    for prefix, hint in _open_groups(config).items():
        example = prefix + ANY  # a flag as well, so that the help shows it
        for name in (example, *given):
            if name.startswith(prefix) and name != prefix:
                settings.setdefault(name, (hint, None))
                texts.setdefault(name, texts[example])
    for name, (hint, value) in settings.items():
        if hint is bool:
            flag: flags.Flag = _Switch(name, value, texts[name])
        elif typing.get_origin(hint) is Literal and isinstance(value, str):
            choices = typing.get_args(hint)
            flag = flags.EnumFlag(name, value, texts[name], choices)
        else:
            parser, serializer = _Parser(name, hint), _Serializer()
            flag = flags.Flag(parser, serializer, name, value, texts[name])
        flags.DEFINE_flag(flag, flag_values, section)


def from_flags(config: C, flag_values: flags.FlagValues) -> C:
    """The config with every setting replaced by its parsed flag, ranges checked."""
    values = {name: flag_values[name].value for name, *_ in leaves(config)}
    groups = _open_groups(config)
    for name in flag_values:
        if _open_hint(name, groups) and flag_values[name].value is not None:
            values[name] = flag_values[name].value
    return updated(config, values)


def helps(config: Any, prefix: str = "") -> dict[str, str]:
    """Dotted name -> the field's comment in the source.

    The comment of a field for open names stands under the name `ANY` and under those
    that `config` has.
    """
    comments = _comments(type(config))  # type: ignore[arg-type]
    texts: dict[str, str] = {}
    for field, hint in _hints(type(config)).items():
        value, text = getattr(config, field), comments.get(field, "")
        if dataclasses.is_dataclass(value):
            texts |= helps(value, f"{prefix}{field}.")
        elif _is_open(hint):
            texts |= {prefix + name: text for name in (ANY, *value)}
        else:
            texts[prefix + field] = text
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
