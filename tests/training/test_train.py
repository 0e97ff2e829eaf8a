"""Whole runs: their files, their continuation, and what stops them."""

import dataclasses
import errno
import functools
import io
import json
import os
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dreamer_tf import replay
from dreamer_tf.configs import fields as configs
from dreamer_tf.configs import presets
from dreamer_tf.configs.run import RunConfig
from dreamer_tf.envs import Envs
from dreamer_tf.errors import Interrupted, UserError
from dreamer_tf.training import checkpoint, logdir, logs, signals
from dreamer_tf.training.evaluate import evaluate_run
from dreamer_tf.training.experience import TRAINING
from dreamer_tf.training.terminal import Terminal
from dreamer_tf.training.train import train as train_run
from tests import fakes
from tests.runs import everything, metrics, scores, settings, stats


def train(run, config=None, tape=None, **more):
    terminal = Terminal(run.steps, io.StringIO())
    make = functools.partial(fakes.make_components, tape=tape)
    config = config or fakes.Config(prefill=8, ratio=0.5)
    return train_run(run, config, ["test"], make, terminal=terminal, **more)


def test_evaluation_does_not_change_what_is_learned(tmp_path):
    trained = []
    for every in (0, 10, 40):
        path = tmp_path / str(every)
        train(settings(path, eval_every=every))
        table = pd.read_csv(path / "scores.csv")
        assert (table.kind == "eval").any() == bool(every)
        trained.append(table[table.kind == "train"].to_csv(index=False))
    assert trained[0] == trained[1] == trained[2]


def test_a_run_leaves_its_files(tmp_path):
    progress = train(settings(tmp_path))
    assert progress.frames == 40 and progress.episodes == 8
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        *("config.json", "metrics.jsonl", "scores.csv", "checkpoints", "tb", "lock")
    }
    rows = metrics(tmp_path)
    # Evaluations after the 8 random decisions, then every 20 frames.
    assert [row["frames"] for row in rows if "eval/return" in row] == [8, 28]
    logged = [row for row in rows if "updates" in row]
    assert [row["frames"] for row in logged] == [10, 20, 30, 40]
    assert logged[-1]["updates"] == int(progress.records * 0.5)
    assert {"loss", "train/return", "replay/gb"} <= set(logged[-1])
    table = [line.split(",") for line in scores(tmp_path)[1:]]
    assert [row[3] for row in table].count("train") == 8
    assert [row[3] for row in table].count("eval") == 6
    seeds = [row[7] for row in table]
    assert len(set(seeds)) == len(seeds)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["agent"]["dyn"]["deter"] == 8 and stored["run"]["envs"] == 2
    (start,) = stored["starts"]
    assert start["command"] == ["test"] and "numpy" in start["packages"]


def test_what_is_said_at_the_start(tmp_path):
    said = io.StringIO()
    path, config = tmp_path / "my run", fakes.Config(prefill=8, ratio=0.5)
    terminal = Terminal(40, said)
    train_run(settings(path), config, [], fakes.make_components, terminal)
    lines = said.getvalue().splitlines()
    assert lines[0].startswith("Starting v3 on walker_walk")
    assert lines[1] == f"Curves: tensorboard --logdir '{path}'"
    assert sum(line.startswith("Compiling the first update") for line in lines) == 1


def test_the_same_seed_gives_the_same_run(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(settings(tmp_path / name, seed=seed))
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")
    assert scores(tmp_path / "a") == scores(tmp_path / "b")
    assert metrics(tmp_path / "a") != metrics(tmp_path / "c")


def test_neither_saving_nor_worker_processes_change_a_run(tmp_path):
    train(settings(tmp_path / "a"))
    train(settings(tmp_path / "b", save_every=0.0))
    train(settings(tmp_path / "c", workers=1, eval_every=0))
    train(settings(tmp_path / "d", eval_every=0))
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")
    assert metrics(tmp_path / "c") == metrics(tmp_path / "d")


def test_a_longer_run_continues(tmp_path):
    """The second run continues counters, agent, replay and rows of the first."""
    train(settings(tmp_path, steps=20))
    first, table = metrics(tmp_path), scores(tmp_path)
    tape = []
    progress = train(settings(tmp_path, steps=40), tape=tape)
    assert progress.frames == 40
    assert metrics(tmp_path)[: len(first)] == first
    assert scores(tmp_path)[: len(table)] == table
    assert [r["frames"] for r in metrics(tmp_path) if "updates" in r] == [
        10,
        20,
        30,
        40,
    ]
    assert [r["frames"] for r in metrics(tmp_path) if "eval/return" in r] == [8, 28]
    assert ("policy", "random") not in tape
    updates = [entry[1] for entry in tape if entry[0] == "update"]
    assert updates[0] == first[-1]["updates"] + 1
    starts = json.loads((tmp_path / "config.json").read_text())["starts"]
    assert len(starts) == 2
    seeds = [line.split(",")[7] for line in scores(tmp_path)[1:]]
    assert len(set(seeds)) == len(seeds)


def interrupted(run, config, at, make=fakes.make_components):
    """Trains until update number `at`, which fails; returns the frames saved."""
    components = make(run, config)
    update, counts = components.agent.begin, iter(range(10**6))

    def failing(batch):
        if next(counts) == at:
            raise RuntimeError("power cut")
        return update(batch)

    components.agent.begin = failing
    with pytest.raises(RuntimeError, match="power cut"):
        train_run(run, config, [], lambda *_: components, Terminal(40, io.StringIO()))
    with open(Path(run.logdir) / logs.METRICS, "a") as file:
        file.write('{"frames": 11')
    saved = checkpoint.latest(Path(run.logdir) / logdir.CHECKPOINTS)
    return checkpoint.read(saved, "loop")["progress"]["frames"]


@pytest.mark.parametrize(
    ("at", "workers"), [(1, 0), (4, 0), (8, 0), (11, 0), (15, 0), (8, 1)]
)
def test_a_crash_changes_nothing(tmp_path, at, workers):
    config = fakes.Config(prefill=6, ratio=0.5)
    changes = {"eval_every": 8, "workers": workers, "steps": 60}
    train(settings(tmp_path / "whole", **changes), config)
    run = settings(tmp_path / "interrupted", save_every=0.0, **changes)
    frames = interrupted(run, config, at)
    assert 0 < frames < 60
    said = io.StringIO()
    progress = train_run(run, config, [], fakes.make_components, Terminal(60, said))
    assert (
        f"Continuing v3 on walker_walk in {run.logdir} at {frames}" in said.getvalue()
    )
    assert progress.frames == 60
    expected, found = (everything(tmp_path / name) for name in ("whole", "interrupted"))
    np.testing.assert_equal(found, expected)


counting = functools.partial(fakes.make_components, kind=fakes.Counting)


def test_stats_of_training_episodes(tmp_path):
    """A line for each, also while acting is random; evaluations have none."""
    config = fakes.Config(prefill=14, ratio=0.5)
    run = settings(tmp_path)
    train_run(run, config, [], counting, Terminal(40, io.StringIO()))
    table = pd.read_csv(tmp_path / "scores.csv")
    assert (table.kind == "eval").any() and (table["mode"] == "random").any()
    trained = table[table.kind == "train"]
    assert len(trained) == 8
    waits = [int(10 * np.random.default_rng(seed).uniform()) for seed in trained.seed]
    assert [json.loads(line) for line in stats(tmp_path)] == [
        {"frames": frames, "length": 5, "achievement_wait": wait}
        for frames, wait in zip(trained.frames, waits)
    ]


# Update 1 is made before the first episode has ended.
@pytest.mark.parametrize("at", [1, 6])
def test_stats_survive_a_crash(tmp_path, at):
    config, changes = fakes.Config(prefill=4, ratio=0.5), {"eval_every": 8, "steps": 30}
    whole = settings(tmp_path / "whole", **changes)
    train_run(whole, config, [], counting, Terminal(30, io.StringIO()))
    run = settings(tmp_path / "interrupted", save_every=0.0, **changes)
    interrupted(run, config, at, counting)
    with open(tmp_path / "interrupted" / logs.STATS, "a") as file:
        file.write('{"frames": 15, "length": 5}\n{"frames": 1')  # since the checkpoint
    train_run(run, config, [], counting, Terminal(30, io.StringIO()))
    expected, found = (everything(tmp_path / name) for name in ("whole", "interrupted"))
    assert len(expected["stats"]) == 6
    np.testing.assert_equal(found, expected)


def test_an_environment_that_does_not_repeat_itself(tmp_path):
    """Is found out, said, and begins its next episode."""

    class Moody(fakes.FakeEnv):
        def _reset(self, seed):
            super()._reset(seed)
            self.value = np.random.default_rng().uniform()

    def make(run, config):
        components = fakes.make_components(run, config)
        moods = Envs([Moody] * run.envs, 0, (run.seed, TRAINING))
        return dataclasses.replace(components, envs=moods)

    run = settings(tmp_path, save_every=0.0, eval_every=0)
    config = fakes.Config(ratio=0.5)
    frames = interrupted(run, config, 8, make)
    said = io.StringIO()
    progress = train_run(run, config, [], make, Terminal(40, said))
    assert "Environment 1 does not repeat itself: with the same seed" in said.getvalue()
    assert "vector, reward differed within" in said.getvalue()
    assert progress.frames == 40
    # What was played of the two interrupted episodes belongs to no finished one.
    assert frames % 10 and progress.finished_frames == frames // 10 * 10 + 20


def test_noise_in_an_earlier_reward_only(tmp_path):
    """Every record of an unfinished episode is compared, not only the last."""

    class Moody(fakes.FakeEnv):
        def _frame(self, action):
            reward, *over = super()._frame(action)
            noise = np.random.default_rng().uniform() if self.frame == 1 else 0.0
            return (reward + noise, *over)

    def make(run, config):
        components = fakes.make_components(run, config)
        moods = Envs([Moody] * run.envs, 0, (run.seed, TRAINING))
        return dataclasses.replace(components, envs=moods)

    run = settings(tmp_path, save_every=0.0, eval_every=0, steps=15)
    train_run(
        dataclasses.replace(run, steps=6),
        fakes.Config(),
        [],
        make,
        Terminal(6, io.StringIO()),
    )
    said = io.StringIO()
    train_run(run, fakes.Config(), [], make, Terminal(15, said))
    assert "does not repeat itself" in said.getvalue()
    assert "actions, reward differed within 3 decisions" in said.getvalue()


def test_a_damaged_piece_of_the_replay_is_dropped(tmp_path):
    run = settings(tmp_path, replay_gb=20_000 / 1e9)  # chunks of two rows
    train(run)
    saved = checkpoint.latest(tmp_path / logdir.CHECKPOINTS)
    (tmp_path / logdir.CHECKPOINTS / "000000-1").mkdir()  # nothing to fall back on
    piece = saved / checkpoint.PIECES / "0-3.npz"
    piece.write_bytes(piece.read_bytes()[:-1] + b"x")
    said = io.StringIO()
    longer = dataclasses.replace(run, steps=60)
    config = fakes.Config(prefill=8, ratio=0.5)
    progress = train_run(longer, config, [], fakes.make_components, Terminal(60, said))
    assert "1 piece of the replay in" in said.getvalue()
    assert "Went on without them: 42 of 44 sequences are left" in said.getvalue()
    assert progress.frames == 60


def test_a_number_that_is_not_finite_stops_the_run(tmp_path):
    run = settings(tmp_path, save_every=0.0, eval_every=0)
    components = fakes.make_components(run, fakes.Config())
    update = components.agent.begin

    def failing(batch):
        metrics, feedback = update(batch)()
        if components.agent.updates == 9:
            metrics |= {"loss/rew": float("nan"), "grad_norm": float("inf")}
        return lambda: (metrics, feedback)

    components.agent.begin = failing
    with pytest.raises(UserError, match=r"made 'loss/rew' \(and 1 more\) nan, which"):
        train_run(
            run, fakes.Config(), [], lambda *_: components, Terminal(40, io.StringIO())
        )
    saved = checkpoint.latest(tmp_path / logdir.CHECKPOINTS)
    assert checkpoint.read_arrays(saved / "agent.npz")["updates"] < 9


@pytest.mark.parametrize("number", signals.ALL)
def test_signals_save_and_stop(tmp_path, number):
    config = fakes.Config(prefill=6, ratio=0.5)
    train(settings(tmp_path / "whole", steps=60), config)
    run = settings(tmp_path / "interrupted", steps=60)

    def make(run, config):
        components = fakes.make_components(run, config)
        update = components.agent.begin

        def signalling(batch):
            if components.agent.updates == 9:
                os.kill(os.getpid(), number)
            return update(batch)

        components.agent.begin = signalling
        return components

    # Background jobs of a shell, such as these tests, may ignore SIGINT.
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(Interrupted, match=r"everything is saved, at \d+ frames"):
            train_run(run, config, [], make, Terminal(60, io.StringIO()))
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    train_run(run, config, [], fakes.make_components, Terminal(60, io.StringIO()))
    expected, found = (everything(tmp_path / name) for name in ("whole", "interrupted"))
    np.testing.assert_equal(found, expected)


# Each evaluation takes five decisions: the first one, the second, and the last one, in
# the run's last decision.
@pytest.mark.parametrize("call", [1, 7, 13])
@pytest.mark.parametrize("why", ["signal", "nobody reads"])
def test_an_evaluation_is_left_and_made_up_for(tmp_path, call, why):
    config = fakes.Config(prefill=6, ratio=0.5)
    changes = {"steps": 46, "eval_every": 20}
    train(settings(tmp_path / "whole", **changes), config)
    run = settings(tmp_path / "interrupted", **changes)
    reader, writer = os.pipe()
    terminal = Terminal(46, os.fdopen(writer, "w"))
    seen = []

    def make(run, config):
        components = fakes.make_components(run, config)
        policy = components.agent.policy

        def interrupting(obs, state, mode):
            seen.append(mode)
            if mode == "eval" and seen.count("eval") == call:
                if why == "signal":
                    os.kill(os.getpid(), signal.SIGTERM)
                else:
                    os.close(reader)
                    terminal.say("to nobody")
            return policy(obs, state, mode)

        components.agent.policy = interrupting
        return components

    with pytest.raises(Interrupted) as info:
        train_run(run, config, [], make, terminal)
    number = signal.SIGTERM if why == "signal" else signal.SIGPIPE
    assert info.value.number == number
    assert seen[-1] == "eval" and seen.count("eval") == call  # it ended at once
    train_run(run, config, [], fakes.make_components, Terminal(46, io.StringIO()))
    expected, found = (everything(tmp_path / name) for name in ("whole", "interrupted"))
    np.testing.assert_equal(found, expected)
    if why == "signal":
        os.close(reader)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EBADF])
def test_training_goes_on_where_it_cannot_be_watched(tmp_path, number, capsys):
    class Screen(io.StringIO):
        def write(self, text):
            raise OSError(number, os.strerror(number))

        def isatty(self):
            return number == errno.EIO  # a terminal that was closed

    run, config = settings(tmp_path), fakes.Config(prefill=8, ratio=0.5)
    terminal = Terminal(40, Screen())
    assert train_run(run, config, [], fakes.make_components, terminal).frames == 40
    assert checkpoint.saved_frames(tmp_path / logdir.CHECKPOINTS) == 40
    error = capsys.readouterr().err
    said = f"standard output cannot be written ({os.strerror(number)})"
    # Where a live line is shown, standard error is led to the same terminal.
    assert error.count(said) == (number != errno.EIO)
    assert "logdir" not in error


def test_plus_minus_in_ascii(tmp_path):
    inner = io.BytesIO()
    terminal = Terminal(40, io.TextIOWrapper(inner, "ascii", write_through=True))
    config = fakes.Config(prefill=8, ratio=0.5)
    train_run(settings(tmp_path), config, [], fakes.make_components, terminal)
    assert re.search(rb"evaluation return \d\.\d \? \d\.\d \(3", inner.getvalue())


def test_a_run_that_never_updates_says_so(tmp_path):
    said = io.StringIO()
    config = fakes.Config(ratio=0.0)
    run = settings(tmp_path)
    train_run(run, config, [], fakes.make_components, Terminal(40, said))
    assert said.getvalue().count("This run will never make an update: ") == 1
    longer = dataclasses.replace(run, steps=60)
    said = io.StringIO()
    train_run(longer, config, [], fakes.make_components, Terminal(60, said))
    assert said.getvalue().count("This run will never make an update: ") == 1


def whole_episodes(limits, rows=6):
    """Makes components whose replay keeps episodes of at least `rows` records."""

    def make(run, config):
        components = fakes.make_components(run, config)
        makers = [functools.partial(fakes.FakeEnv, limit) for limit in limits]
        envs = Envs(makers, 0, (run.seed, TRAINING))
        kept = replay.EpisodeChunks(2, rows, None, 10**6, run.seed, include_end=True)
        return dataclasses.replace(components, envs=envs, replay=kept)

    return make


def test_short_episodes_are_counted_and_said_once(tmp_path):
    """Of the two environments one has episodes of 3 frames, too short for 6 records."""
    run = settings(tmp_path, version="v1", eval_every=0, steps=60)
    config = fakes.Config(prefill=8, ratio=0.5)
    make = whole_episodes([3, 5])
    for steps in (30, 60):
        said = io.StringIO()
        part = dataclasses.replace(run, steps=steps)
        train_run(part, config, [], make, Terminal(60, said))
        assert said.getvalue().count("episodes so far, with ") == 1
        assert "were too short for a sequence of 6 records. A new" in said.getvalue()
        assert "--batch_length learns from shorter" in said.getvalue()
    last = metrics(tmp_path)[-1]
    table = pd.read_csv(tmp_path / "scores.csv")
    short = table[table.length == 3]
    assert last["replay/short_episodes"] == len(short) > 5
    assert last["replay/short_frames"] == short.length.sum()


def test_an_episode_that_never_ends_is_said(tmp_path):
    run = settings(tmp_path, version="v2", eval_every=0, task="gym_Nothing-v0")
    said = io.StringIO()
    config = fakes.Config(prefill=8, ratio=0.5)
    train_run(run, config, [], whole_episodes([10**9] * 2), Terminal(40, said))
    text = said.getvalue()
    assert text.count("Episodes of gym_Nothing-v0 have no time limit") == 1
    assert text.count("no episode has ended within 5 frames. If they never") == 1


def test_a_run_from_before_a_setting_existed(tmp_path):
    """It goes on as before, as often as it is started, and evaluates."""
    config = fakes.Config(prefill=8, ratio=0.5)
    train(settings(tmp_path, steps=10), config)
    file = tmp_path / logdir.CONFIG

    def forget():
        content = json.loads(file.read_text())
        for name in ("fast_render", "env_timeout"):
            content["run"].pop(name, None)
        content["agent"].pop("ratio", None)
        content["agent"]["dyn"].pop("deter", None)
        file.write_text(json.dumps(content))

    forget()
    # Where the default has changed since, the old value counts: here that of `ratio`.
    for steps in (20, 30):
        said = io.StringIO()
        run = settings(tmp_path, steps=steps, env_timeout=9.0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(logdir.BEFORE, "ratio", 0.25)
            train_run(run, config, [], fakes.make_components, Terminal(30, said))
        assert (
            "Continuing with --ratio=0.25: this run is from before" in said.getvalue()
        )
        stored = json.loads(file.read_text())
        assert "ratio" not in stored["agent"] and "deter" not in stored["agent"]["dyn"]
        assert stored["run"]["env_timeout"] == 9.0
    assert logdir.read(tmp_path).fast_render is False


def test_runs_of_dreamer_v1_from_before_include_end(tmp_path):
    settings_ = presets.load("v1", "toy", "lite")
    run = dataclasses.replace(settings_[0], logdir=str(tmp_path))
    logdir.write(run, settings_[1], [])
    content = json.loads((tmp_path / logdir.CONFIG).read_text())
    del content["agent"]["include_end"]
    (tmp_path / logdir.CONFIG).write_text(json.dumps(content))
    said = []
    assert logdir.check(run, settings_[1], said.append)[1].include_end is False
    assert "Continuing with --include_end=False" in said[0] and len(said) == 1


@pytest.mark.parametrize("name", logdir.ALWAYS)
def test_a_config_without_what_every_run_has_is_damaged(tmp_path, name):
    train(settings(tmp_path, steps=0))
    content = json.loads((tmp_path / logdir.CONFIG).read_text())
    del content["run"][name]
    (tmp_path / logdir.CONFIG).write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"its 'run' lacks '{name}'"):
        train(settings(tmp_path, steps=0))


def test_a_finished_run_has_nothing_to_do(tmp_path):
    train(settings(tmp_path))
    before = (tmp_path / logs.METRICS).read_bytes(), scores(tmp_path)
    tape = []
    assert train(settings(tmp_path), tape=tape).frames == 40
    assert tape == []
    assert before == ((tmp_path / logs.METRICS).read_bytes(), scores(tmp_path))


def test_zero_steps(tmp_path):
    assert train(settings(tmp_path, steps=0)).frames == 0


@pytest.mark.parametrize(
    ("run", "agent", "sentence"),
    [
        ({"seed": 3}, {}, "--seed was 0 there and is 3 now"),
        ({}, {"dyn": fakes.Inner(deter=9)}, "--dyn.deter was 8 there and is 9 now"),
        (
            {},
            {"dyn": fakes.Inner(mults=(1,))},
            "--dyn.mults was 2,3 there and is 1 now",
        ),
    ],
)
def test_another_config_is_refused(tmp_path, run, agent, sentence):
    train(settings(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    before.pop(tmp_path / logdir.LOCK)
    config = fakes.Config(prefill=8, ratio=0.5)
    with pytest.raises(UserError, match=sentence):
        train(settings(tmp_path, **run), dataclasses.replace(config, **agent))
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_what_may_change_is_said(tmp_path):
    train(settings(tmp_path, steps=10))
    stream = io.StringIO()
    run = dataclasses.replace(settings(tmp_path, steps=20), log_every=5)
    terminal = Terminal(20, stream)
    train_run(
        run, fakes.Config(prefill=8, ratio=0.5), [], fakes.make_components, terminal
    )
    assert "Continuing with --steps=20, before it was 10." in stream.getvalue()
    assert "Continuing with --log_every=5, before it was 10." in stream.getvalue()


def test_a_foreign_directory_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"holds thesis.tex but no config.json"):
        train(settings(tmp_path))
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_damaged_config_is_an_error(tmp_path):
    train(settings(tmp_path, steps=0))
    for text in ("{", "[]", "{}"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UserError, match=r"config.json is damaged"):
            train(settings(tmp_path))


def test_settings_that_cannot_be_built_leave_nothing(tmp_path):
    def fail(run, config):
        raise UserError("No such task.")

    with pytest.raises(UserError, match="No such task"):
        train_run(settings(tmp_path), fakes.Config(), [], fail)
    assert not (tmp_path / "config.json").exists()
    train(settings(tmp_path, seed=4, steps=4))


def test_a_second_process_is_refused(tmp_path):
    in_use = pytest.raises(UserError, match=r"is in use by process \d+")
    with logdir.locked(tmp_path), in_use:
        train(settings(tmp_path))
    train(settings(tmp_path, steps=4))


def test_a_logdir_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--logdir=.* cannot be written: "):
        train(settings(tmp_path / "file" / "run"))


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("0123abcd", "0123abcd"),
        (" 0123abcd-dirty\n", "0123abcd-dirty"),
        ("", "of git"),
        (" ", "of git"),
    ],
)
def test_a_source_without_git_says_its_commit(said, found, monkeypatch, tmp_path):
    answer = subprocess.CompletedProcess([], 0, "of git\n", "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    monkeypatch.setenv("DREAMER_TF_COMMIT", said)
    assert logdir.commit() == found
    train(settings(tmp_path, steps=2))
    start = json.loads((tmp_path / logdir.CONFIG).read_text())["starts"][0]
    assert start["commit"] == found


@pytest.mark.slow
def test_a_real_agent(tmp_path):
    """DreamerV3 on the toy task: repeatable, continued, evaluated."""
    from dreamer_tf import v3

    small = {"dyn.deter": 16, "dyn.hidden": 16, "dyn.stoch": 4, "dyn.classes": 4}
    small |= {f"{part}.units": 16 for part in ("enc", "dec", "policy", "value")}
    small |= {"batch_size": 2, "batch_length": 8, "imag_length": 3, "train_ratio": 4}
    config = configs.updated(v3.Config(), small | {"jit": False})

    def run(name, **more):
        settings = RunConfig(task="toy", length=20, envs=2, log_every=20, eval_every=80)
        more = {"logdir": str(tmp_path / name), "eval_episodes": 2} | more
        settings = dataclasses.replace(settings, **more)
        return train_run(settings, config, [], None, Terminal(0, io.StringIO()))

    assert run("a", steps=80).frames == 80
    run("b", steps=80)
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")
    assert scores(tmp_path / "a") == scores(tmp_path / "b")
    last = metrics(tmp_path / "a")[-1]
    assert last["updates"] > 5 and np.isfinite(last["loss/dyn"])
    assert run("a", steps=120).frames == 120
    assert metrics(tmp_path / "a")[-1]["updates"] > last["updates"]
    (episode,) = evaluate_run(tmp_path / "a", 1)
    assert episode.frames == 120 and episode.length == 20
    # The reward is 1 - distance, at most the square root of 2 in a corner.
    assert 20 * (1 - 2**0.5) <= episode.score <= 20 and episode.score
    assert evaluate_run(tmp_path / "a", 1)[0].score == episode.score
