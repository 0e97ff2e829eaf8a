"""Films of a run: their files, the command."""

import functools
import io
import subprocess
import sys

import imageio.v2 as imageio
import numpy as np
import pytest

import run
from dreamer_tf import output, pictures
from dreamer_tf.configs import fields as configs
from dreamer_tf.configs.run import RunConfig
from dreamer_tf.errors import UserError
from dreamer_tf.tools import video
from dreamer_tf.training import load
from dreamer_tf.training.terminal import Terminal
from dreamer_tf.training.train import train
from tests import fakes
from tests.test_pictures import IMAGINED, PAPER, SEEN, openloop, painted

# --- Files ------------------------------------------------------------------------


def test_files_can_be_read_again(tmp_path):
    frames = list(pictures.animate(painted(steps=9, sequences=2), "title"))
    with video._mp4(tmp_path / "a.mp4", 10) as writer:
        for frame in frames:
            writer.append_data(frame)
    video._gif(tmp_path / "a.gif", frames, 10)
    for name in ("a.mp4", "a.gif"):
        found = imageio.mimread(tmp_path / name, memtest=False)
        assert len(found) == 9
        for frame, expected in zip(found, frames):
            assert frame[..., :3].shape == expected.shape
            error = np.abs(frame[..., :3].astype(float) - expected).mean()
            assert error < 6
    reader = imageio.get_reader(tmp_path / "a.mp4")
    assert reader.get_meta_data()["fps"] == 10
    assert reader.get_meta_data()["codec"] == "h264"


def test_colours_with_a_meaning_survive_in_a_gif(tmp_path):
    result = openloop({"image": (16, 16, 3)}, sequences=4, steps=6)
    video._gif(tmp_path / "a.gif", list(pictures.animate(result, "title")), 10)
    for frame in imageio.mimread(tmp_path / "a.gif", memtest=False):
        for colour in (SEEN, IMAGINED, PAPER):
            assert (frame[:64, :, :3] == colour).all(-1).sum() > 100  # the legend


@pytest.mark.parametrize("count", [1, 4, 5, 9, 17])
def test_few_keeps_evenly_spaced_pictures(count):
    few = video._Few(4)
    for number in range(count):
        few.add(np.array(number))
    assert [int(p) for p in few.kept] == list(range(0, count, few.stride))
    assert len(few.kept) <= 4 and (count <= 4) == (few.stride == 1)


# --- The command ------------------------------------------------------------------


def episode(rows):
    first = np.arange(rows) == 0
    return {"reward": np.arange(rows, dtype="f4"), "is_first": first}


def test_sequences_do_not_overlap_and_span_the_episodes():
    batch = video._batch([episode(100)], 5, 24)
    assert batch["reward"][:, 0].tolist() == [0, 35, 70]
    assert batch["reward"].shape == (3, 30) and batch["is_first"][:, 0].all()
    batch = video._batch([episode(100), episode(20), episode(31)], 5, 24)
    assert batch["reward"][:, 0].tolist() == [0, 70, 0]
    assert len(video._batch([episode(31)] * 8, 5, 24)["reward"]) == video.SEQUENCES


def test_horizon_beyond_the_episode():
    with pytest.raises(UserError, match=r"the longest has 19: give --horizon=14 or"):
        video._batch([episode(20), episode(7)], 5, 45)
    with pytest.raises(UserError, match=r"the longest has 3: give --context=1 and a"):
        video._batch([episode(4)], 5, 45)
    assert video._batch([episode(20)], 5, 14)["reward"].shape == (1, 20)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An untrained DreamerV3 that acted in the toy task, with a checkpoint."""
    from dreamer_tf import v3

    small = {"dyn.deter": 16, "dyn.hidden": 8, "dyn.stoch": 4, "dyn.classes": 4}
    small |= {f"{part}.units": 8 for part in ("enc", "dec", "policy", "value")}
    small |= {"enc.depth": 2, "dec.depth": 2, "train_ratio": 0.0, "jit": False}
    path = tmp_path_factory.mktemp("run")
    settings = RunConfig(
        logdir=str(path), task="toy", obs="both", size=32, length=12, steps=2
    )
    config = configs.updated(v3.Config(), small)
    train(settings, config, [], None, Terminal(2, io.StringIO()))
    with pytest.MonkeyPatch.context() as patch:
        # Compiling once is enough for all that is asked of it below.
        patch.setattr(load, "load_agent", functools.cache(load.load_agent))
        yield path


def test_command(trained, tmp_path, capsys, monkeypatch):
    counted = []
    monkeypatch.setattr(
        output.Count, "__call__", lambda self, text: counted.append(text)
    )
    command = ["video", f"--logdir={trained}", f"--out={tmp_path}", "--context=3"]
    assert run.main([*command, "--horizon=8", "--episodes=2", "--fps=5"]) == 0
    printed = capsys.readouterr().out.split()
    names = ["openloop.mp4", "openloop.gif", "openloop.png", "policy.mp4", "policy.gif"]
    assert printed == [str(tmp_path / name) for name in names]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)
    for name in ("openloop.mp4", "openloop.gif"):
        frames = imageio.mimread(tmp_path / name, memtest=False)
        assert len(frames) == 11 and frames[0].shape[1] == 900
    for name in ("policy.mp4", "policy.gif"):
        frames = imageio.mimread(tmp_path / name, memtest=False)
        assert len(frames) == 2 * 13 and frames[0].shape[:2] == (352, 320)
    assert imageio.imread(tmp_path / "openloop.png").shape[2] == 3
    assert counted[0] == "episode 1 of 2: decision 0"
    assert counted[25] == "episode 2 of 2: decision 12"
    assert counted[-2:] == ["openloop: picture 11 of 11", "writing the files"]


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("--horizon=30", "the longest has 12: give --horizon=7 or less."),
        ("--out=FILE/videos", "cannot be written: Not a directory."),
        ("--logdir=NEW", "holds no run: no config.json there."),
        ("--context=0", "--context=0"),
    ],
)
def test_mistakes_are_one_sentence(trained, tmp_path, capsys, argument, sentence):
    (tmp_path / "file").write_text("")
    argument = argument.replace("FILE", str(tmp_path / "file"))
    argument = argument.replace("NEW", str(tmp_path))
    out = f"--out={tmp_path / 'videos'}"
    assert run.main(["video", f"--logdir={trained}", out, argument]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1


def test_before_the_first_checkpoint(tmp_path, capsys):
    settings = RunConfig(logdir=str(tmp_path), steps=0)
    train(settings, fakes.Config(), [], fakes.make_components)
    capsys.readouterr()
    assert run.main(["video", f"--logdir={tmp_path}"]) == 2
    assert "There is no checkpoint in" in capsys.readouterr().err


def test_without_pictures_there_is_still_the_prediction(trained, tmp_path, monkeypatch):
    def render(self, size=None):
        raise UserError("No graphics here.")

    from dreamer_tf.envs import toy

    record = toy.Toy.render
    monkeypatch.setattr(
        toy.Toy, "render", lambda self, size=None: (render if size else record)(self)
    )
    said = []
    files = video.film_run(trained, tmp_path, 1, 3, 8, say=said.append)
    assert said == ["There will be no film of the policy: No graphics here."]
    assert [file.name for file in files] == [
        *("openloop.mp4", "openloop.gif", "openloop.png")
    ]
    assert sorted(files) == sorted(tmp_path.iterdir())


@pytest.mark.slow
def test_tensorflow_and_graphics_side_by_side(tmp_path):
    """In one process they crash: training, evaluation and films keep them apart."""
    logdir = f"--logdir={tmp_path}"
    train = "train --version=v3 --benchmark=dmc_vision --protocol=lite --envs=1"
    train += " --task=cartpole_swingup --steps=40 --train_ratio=0 --eval_every=20"
    commands = [f"{train} --eval_episodes=1 --length=120", "evaluate --episodes=1"]
    for command in [*commands, "video --horizon=20"]:
        argv = [sys.executable, "run.py", *command.split(), logdir]
        result = subprocess.run(argv, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr[-2000:]
    assert len(list((tmp_path / "videos").iterdir())) == 5
