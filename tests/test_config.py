import dataclasses
import inspect
import json
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import pytest
from absl import flags

from dreamer_tf.configs import VERSIONS, config_class, ranges
from dreamer_tf.configs import fields as configs
from dreamer_tf.configs.ranges import Count, NonNegative, Range, Stages
from dreamer_tf.configs.run import CHANGEABLE, RunConfig, read_arguments
from dreamer_tf.errors import UserError
from dreamer_tf.training import logdir


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


# --- Ranges -------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Ranged:
    width: Count = 4
    kernels: Stages = (4, 4)
    limit: Count | None = None
    share: ranges.Share = 0.5
    both: Annotated[int, Range(at_least=1), Range(below=9)] = 1
    act: ranges.Activation = "elu"
    keys: ranges.Pattern = ".*"


@dataclasses.dataclass(frozen=True)
class OnFlags(Ranged):
    SENTENCE: ClassVar[str] = "--{name} must be {range}, got {value}."


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"width": 0}, "width is 0; it must be at least 1."),
        ({"kernels": (4, -5)}, "kernels is -5; it must be at least 1."),
        ({"kernels": ()}, "kernels is empty; it must have at least one number."),
        ({"limit": 0}, "limit is 0; it must be at least 1."),
        ({"share": 2}, "share is 2.0; it must be at least 0 and at most 1."),
        ({"both": 0}, "both is 0; it must be at least 1."),
        ({"both": 9}, "both is 9; it must be below 9."),
        ({"keys": "("}, "keys is '(', which is no regular expression: "),
        ({"act": "rellu"}, "act is 'rellu'; give a name of keras.activations, such as"),
    ],
)
def test_ranges(changes, sentence):
    with pytest.raises(UserError) as info:
        configs.updated(Ranged(), changes)
    assert str(info.value).startswith(sentence)
    with pytest.raises(UserError):  # made without a check
        configs.validate(dataclasses.replace(Ranged(), **changes))


def test_values_within_their_ranges():
    changes = {"width": 1, "share": 1, "both": 8, "act": "none", "limit": None}
    configs.updated(Ranged(), changes)


def test_a_config_has_its_own_sentence():
    with pytest.raises(UserError, match=r"^--width must be at least 1, got 0\.$"):
        configs.updated(OnFlags(), {"width": 0})


def test_ranges_are_in_the_help():
    values = flags.FlagValues()
    configs.define_flags(Ranged(), values, "settings")
    text = values.module_help("settings")
    assert "(a whole number, at least 1)" in text
    assert "(a finite number, at least 0 and at most 1)" in text
    assert "(a whole number, at least 1 and below 9)" in text


def test_activations_are_those_of_keras():
    import keras

    found = {
        name
        for name, value in vars(keras.activations).items()
        if inspect.isfunction(value) and name not in ("get", "serialize", "deserialize")
    }
    assert found <= set(ranges.ACTIVATIONS)
    for name in ranges.ACTIVATIONS:
        assert callable(keras.activations.get(name))


@pytest.mark.parametrize("version", VERSIONS)
def test_settings_of_a_version(version):
    config = config_class(version)()
    configs.validate(config)
    assert all(configs.helps(config).values())
    stored = json.loads(json.dumps(configs.to_dict(config)))
    assert configs.from_dict(config_class(version)(), stored) == config


def test_an_unknown_version():
    with pytest.raises(UserError, match="is 'v4'; choose from v1, v2, v3"):
        config_class("v4")


# --- Open names -----------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Scales:
    kl: NonNegative = 1.0  # of the KL
    # of an entry
    entries: Mapping[str, NonNegative] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class OnlyOpen:
    names: Mapping[str, int] = dataclasses.field(default_factory=dict)  # of a name


@dataclasses.dataclass(frozen=True)
class Open:
    scales: Scales = dataclasses.field(default_factory=Scales)
    only: OnlyOpen = dataclasses.field(default_factory=OnlyOpen)
    dyn: Dyn = dataclasses.field(default_factory=Dyn)


def parse_open(*argv, config=None):
    values = flags.FlagValues()
    config = config or Open()
    configs.define_flags(config, values, "settings", argv)
    values(["program", *argv])
    return configs.from_flags(config, values)


def test_open_names_are_flags():
    argv = ["--scales.position=0.7", "--scales.a.b", "2", "--scales.kl=3", "--only.x=1"]
    config = parse_open(*argv)
    assert config.scales == Scales(3.0, {"position": 0.7, "a.b": 2.0})
    assert config.only.names == {"x": 1} and type(config.only.names["x"]) is int
    assert parse_open() == Open()


def test_open_names_of_a_flagfile(tmp_path):
    (tmp_path / "flags").write_text("--scales.position=0.7\n")
    config = parse_open(f"--flagfile={tmp_path / 'flags'}")
    assert config.scales.entries == {"position": 0.7}


def test_open_names_of_the_config_are_kept():
    before = configs.updated(Open(), {"scales.x": 2, "scales.y": 3})
    after = parse_open("--scales.y=4", "--scales.z=5", config=before)
    assert after.scales.entries == {"x": 2.0, "y": 4.0, "z": 5.0}
    assert before.scales.entries == {"x": 2.0, "y": 3.0}


def test_open_names_may_be_those_of_fields():
    """The field that holds them has no name of its own for a person."""
    config = configs.updated(Open(), {"scales.entries": 2, "scales.NAME": 3})
    assert config.scales.entries == {"entries": 2.0, "NAME": 3.0}
    assert configs.from_dict(Open(), configs.to_dict(config)) == config


def test_stored_open_names():
    assert configs.to_dict(Open()) == {
        "scales": {"kl": 1.0},
        "dyn": configs.to_dict(Dyn()),
    }
    config = configs.updated(Open(), {"scales.position": 0.7, "only.x": 3})
    stored = json.loads(json.dumps(configs.to_dict(config)))
    assert stored["scales"] == {"kl": 1.0, "position": 0.7}
    assert stored["only"] == {"x": 3}
    assert configs.from_dict(Open(), stored) == config
    names = [name for name, *_ in configs.leaves(config)]
    assert names[:3] == ["scales.kl", "scales.position", "only.x"]
    assert configs.helps(config)["scales.position"] == "of an entry"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"scales.x": "1"}, "'scales.x' must be a finite number, got '1'"),
        ({"scales.x": -1}, "scales.x is -1.0; it must be at least 0."),
        ({"scales.": 1}, "Unknown setting 'scales.'"),
        ({"scales": 1}, "Unknown setting 'scales'"),
        ({"dyn.detter": 1}, "'dyn.detter': did you mean 'dyn.deter'"),
    ],
)
def test_bad_open_names(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        configs.updated(Open(), changes)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--scales.x=y"], "it must be a finite number."),
        (["--scales.x=-1"], "scales.x is -1.0; it must be at least 0."),
        (["--scales.x"], "Missing value for flag --scales.x"),
        (["--scales.=1"], "Unknown command line flag 'scales.'"),
        (["--dyn.detr=3"], "'dyn.detr'. Did you mean: dyn.deter"),
    ],
)
def test_bad_flags_of_open_names(argv, sentence):
    with pytest.raises((flags.Error, UserError), match=sentence):
        parse_open(*argv)


def test_help_shows_that_names_are_open():
    values = flags.FlagValues()
    configs.define_flags(Open(), values, "settings")
    assert "--scales.NAME: of an entry" in values.module_help("settings")


@pytest.mark.parametrize(("version", "others"), [("v1", 1.0), ("v2", 1.0), ("v3", 0.5)])
def test_factors_of_entries(version, others):
    changes = {"loss_scales.rec": 0.5} if version == "v3" else {}
    config = configs.updated(
        config_class(version)(), {**changes, "loss_scales.position": 0.7}
    )
    assert config.loss_scales.entries == {"position": 0.7}
    assert config.loss_scales.of("position") == 0.7
    assert config.loss_scales.of("velocity") == others
    assert config.loss_scales.of("entries") == others
    stored = configs.to_dict(config)["loss_scales"]
    assert stored["position"] == 0.7 and "entries" not in stored
    if version != "v1":
        own = "kl" if version == "v2" else "repval"
        assert config.loss_scales.of(own) == getattr(config.loss_scales, own)


def test_without_factors_of_entries_files_stay_as_they_were():
    assert "loss_scales" not in configs.to_dict(config_class("v1")())
    assert list(configs.to_dict(config_class("v2")())["loss_scales"]) == [
        "kl",
        "reward",
        "discount",
        "proprio",
    ]


def test_a_run_with_other_factors_is_another_run(tmp_path):
    run = configs.updated(RunConfig(), {"logdir": str(tmp_path), "version": "v1"})
    plain = config_class("v1")()
    logdir.write(run, plain, [])
    logdir.check(run, plain)
    weighted = configs.updated(plain, {"loss_scales.position": 0.7})
    with pytest.raises(UserError, match=r"position was unknown there"):
        logdir.check(run, weighted)
    logdir.write(run, weighted, [])
    logdir.check(run, weighted)
    with pytest.raises(UserError, match=r"position was 0.7 there"):
        logdir.check(run, plain)


# --- Arguments of an environment -----------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        (" ", {}),
        ("{}", {}),
        ("gravity=9.8", {"gravity": 9.8}),
        (" a=1 ,b = true,c=north=up,", {"a": 1, "b": True, "c": "north=up"}),
        ("a=null,b=NaN,c=", {"a": None, "b": "NaN", "c": ""}),
        ('a="1"', {"a": "1"}),
        (' {"a": [1, {"b": 2}]}', {"a": [1, {"b": 2}]}),
    ],
)
def test_arguments_of_an_environment(text, expected):
    run = parse(f"--env_args={text}", config=RunConfig())
    assert read_arguments(run.env_args) == expected
    # The stored text is the one that every other spelling becomes.
    assert RunConfig(env_args=json.dumps(expected)) == run
    assert configs.from_dict(RunConfig(), configs.to_dict(run)) == run


@pytest.mark.parametrize(
    "text",
    ["gravity", "=3", "a=1,b", "a=1,a=2", "{a: 1}", '{"a": NaN}', '{"a":' * 9999],
)
def test_bad_arguments_of_an_environment(text):
    with pytest.raises(UserError, match=r"--env_args is .*NAME=VALUE") as error:
        RunConfig(env_args=text)
    assert len(str(error.value)) < 400


def test_a_run_with_other_arguments_is_another_run(tmp_path):
    run = RunConfig(logdir=str(tmp_path), env_args="width=1,depth=2")
    config = config_class("v3")()
    logdir.write(run, config, [])
    logdir.check(dataclasses.replace(run, env_args='{"depth": 2, "width": 1}'), config)
    for other in ("", "width=3,depth=2"):
        with pytest.raises(
            UserError, match=r"--env_args was {\"depth\": 2, \"width\": 1}"
        ):
            logdir.check(dataclasses.replace(run, env_args=other), config)
    assert logdir.read(tmp_path).env_args == run.env_args
