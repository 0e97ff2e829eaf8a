"""What a run says of the observation entries, and where it renders."""

import dataclasses
import io
from types import SimpleNamespace

import pytest

from dreamer_tf.configs.run import RunConfig
from dreamer_tf.training.build import needs_graphics, observed
from dreamer_tf.training.terminal import Terminal
from dreamer_tf.training.train import train
from tests import fakes
from tests.runs import settings

SHAPES = {"eye": (64, 64, 3), "height": (), "speed": (2,)}
SETTINGS = "by --encoder.mlp_keys, --encoder.cnn_keys or --every_rank"


@pytest.mark.parametrize(
    ("used", "ignored", "sentence"),
    [
        (["speed", "eye"], {"mission": "Text"}, f"height ({SETTINGS})"),
        (["eye", "speed", "height"], {}, ""),
    ],
)
def test_entries_are_said(used, ignored, sentence):
    agent = SimpleNamespace(shapes=SHAPES, encoder=SimpleNamespace(entries=used))
    vectors = ", ".join(name for name in used if name != "eye")
    parts = [f"{name} ({why})" for name, why in ignored.items()] + [sentence]
    text = f"; ignored: {', '.join(parts)}" if sentence else ""
    expected = f"Observed as images: eye; vectors: {vectors}{text}."
    assert observed(agent, ignored) == expected


def test_a_start_says_them(tmp_path):
    def make(run, config):
        parts = fakes.make_components(run, config)
        return dataclasses.replace(parts, observed="Observed as vectors: vector.")

    output = io.StringIO()
    run = settings(tmp_path, eval_every=0)
    terminal = Terminal(run.steps, output)
    train(run, fakes.Config(), ["test"], make, terminal=terminal)
    assert "Observed as vectors: vector." in output.getvalue()


@pytest.mark.parametrize(
    ("task", "needed"),
    [
        ("toy", False),
        ("catch", False),
        ("minatar_breakout", False),
        ("ball_in_cup_catch", True),
        ("gym_CartPole-v1", True),
    ],
)
def test_which_tasks_render_in_a_process_of_their_own(task, needed):
    assert needs_graphics(RunConfig(task=task)) == needed
