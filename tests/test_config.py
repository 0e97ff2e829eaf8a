import dataclasses
import json
from typing import Literal

import pytest
from absl import flags

from dreamer_tf.configs import fields as configs
from dreamer_tf.configs.run import CHANGEABLE, RunConfig
from dreamer_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class Dyn:
    deter: int = 512  # width of the recurrent state
    # Channels of every stage,
    # from the image on
    mults: tuple[int, ...] = (2, 3, 4)
    lr: float = 1e-4

    def validate(self):
        if self.deter < 1:
            raise UserError(f"dyn.deter must be at least 1, got {self.deter}.")


@dataclasses.dataclass(frozen=True)
class Config:
    """Documentation, with a # that is no comment."""

    dyn: Dyn = dataclasses.field(default_factory=Dyn)
    horizon: int = dataclasses.field(
        default=333,
    )  # effective horizon
    act: Literal["silu", "elu"] = "silu"  # activation

    # A heading that belongs to nothing.

    bias: bool = True  # add one
    clip: float | None = None  # "none": do not clip
    name: str = "a # b"  # not "b"
    stages: Literal[1, 2] = 1  # how many


@dataclasses.dataclass(frozen=True)
class More(Config):
    extra: int = 1  # of the subclass


def parse(*argv, config=None):
    values = flags.FlagValues()
    config = config or Config()
    configs.define_flags(config, values, "settings")
    values(["program", *argv])
    return configs.from_flags(config, values)


def test_help_is_the_comment():
    assert configs.helps(More()) == {
        "dyn.deter": "width of the recurrent state",
        "dyn.mults": "Channels of every stage, from the image on",
        "dyn.lr": "",
        "horizon": "effective horizon",
        "act": "activation",
        "bias": "add one",
        "clip": '"none": do not clip',
        "name": 'not "b"',
        "stages": "how many",
        "extra": "of the subclass",
    }


def test_every_run_flag_has_a_help_text():
    assert all(configs.helps(RunConfig()).values())


def test_flags_are_listed_with_help_and_default():
    values = flags.FlagValues()
    configs.define_flags(Config(), values, "settings")
    text = values.module_help("settings")
    for part in ("--dyn.deter: width of the", "512", "--act: <silu|elu>: activation"):
        assert part in text
    assert "'2,3,4'" in text and "--[no]bias" in text


@pytest.mark.parametrize(
    ("flag", "name", "value"),
    [
        ("--dyn.deter=1e3", "deter", 1000),
        ("--dyn.mults=5,1e1", "mults", (5, 10)),
        ("--dyn.mults=", "mults", ()),
        ("--dyn.lr=3", "lr", 3.0),
    ],
)
def test_nested_values(flag, name, value):
    result = getattr(parse(flag).dyn, name)
    assert result == value and type(result) is type(value)


@pytest.mark.parametrize(
    ("flag", "name", "value"),
    [
        ("--act=elu", "act", "elu"),
        ("--nobias", "bias", False),
        ("--bias=false", "bias", False),
        ("--clip=10", "clip", 10.0),
        ("--clip=None", "clip", None),
        ("--name=x,y", "name", "x,y"),
        ("--stages=2", "stages", 2),
        ("--horizon=1e18", "horizon", 10**18),
    ],
)
def test_values(flag, name, value):
    result = getattr(parse(flag), name)
    assert result == value and type(result) is type(value)


def test_without_flags_nothing_changes():
    other = configs.updated(Config(), {"dyn.mults": [7], "clip": 2, "bias": False})
    assert parse(config=other) == other


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--horizon=1.5", "--horizon=1.5: it must be a whole number."),
        ("--horizon=inf", "must be a whole number"),
        ("--horizon=many", "must be a whole number"),
        ("--dyn.lr=nan", "must be a finite number"),
        ("--dyn.lr=inf", "must be a finite number"),
        ("--dyn.mults=1,x", "must be a comma-separated list, each a whole number"),
        ("--act=relu", r"should be one of <silu\|elu>"),
        ("--stages=3", "must be one of 1, 2"),
        ("--bias=maybe", "--bias=maybe: it must be true or false."),
        ("--clip=x", "must be a finite number or none"),
        ("--dyn.detr=3", "'dyn.detr'. Did you mean: dyn.deter"),
        ("--dyn.deter=0", "dyn.deter must be at least 1, got 0."),
    ],
)
def test_bad_flags(flag, sentence):
    with pytest.raises((flags.Error, UserError), match=sentence) as info:
        parse(flag)
    assert "\n" not in str(info.value)


def test_dict_round_trip_through_json():
    config = configs.updated(Config(), {"dyn.mults": (1, 2), "dyn.lr": 0.1, "clip": 3})
    text = json.dumps(configs.to_dict(config))
    assert configs.from_dict(Config(), json.loads(text)) == config


def test_dict_without_a_field_has_its_default():
    assert configs.from_dict(Config(), {"dyn": {"deter": 4}}).dyn == Dyn(deter=4)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"dyn": {"detter": 1}}, "'dyn.detter': did you mean 'dyn.deter'"),
        ({"xyz": 1}, "'xyz': there is none like it"),
        ({"dyn": 3}, "'dyn' must be a group of settings, got 3"),
        ({"dyn": {"deter": "4"}}, "'dyn.deter' must be a whole number, got '4'"),
        ({"dyn": {"deter": True}}, "'dyn.deter' must be a whole number, got True"),
        ({"dyn": {"mults": [1.5]}}, "'dyn.mults' must be a whole number, got 1.5"),
        ({"dyn": {"mults": 2}}, "'dyn.mults' must be a comma-separated list"),
        ({"act": "relu"}, "'act' must be one of silu, elu, got 'relu'"),
        ({"bias": 1}, "'bias' must be true or false, got 1"),
        ({"name": None}, "'name' must be a text, got None"),
        ({"dyn": {"deter": -1}}, "dyn.deter must be at least 1"),
    ],
)
def test_bad_dicts(data, sentence):
    with pytest.raises(UserError, match=sentence):
        configs.from_dict(Config(), data)


def test_updated_leaves_the_original_alone():
    config = Config()
    changed = configs.updated(config, {"dyn.deter": 1e3, "horizon": 5})
    assert (changed.dyn.deter, changed.horizon) == (1000, 5)
    assert config == Config() and type(changed.dyn.deter) is int


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", -1),
        ("envs", 0),
        ("seed", -1),
        ("seed", 2**32),
        ("repeat", 0),
        ("log_every", 0),
        ("eval_every", -5),
        ("workers", 2),
        ("replay_gb", 0.0),
        ("devices", 0),
        ("gpu_memory_gb", -1.0),
    ],
)
def test_run_ranges(name, value):
    with pytest.raises(UserError, match=f"^--{name} must be .* got {value}"):
        configs.updated(RunConfig(), {name: value})


def test_what_may_change_exists():
    names = {field.name for field in dataclasses.fields(RunConfig)}
    assert names >= set(CHANGEABLE)
