"""Memory and disk: what a run says it needs, and what it takes."""

import dataclasses
import io
import itertools
import os
from types import SimpleNamespace
from unittest import mock

from dreamer_tf import replay
from dreamer_tf.training import budget
from dreamer_tf.training.terminal import Terminal
from dreamer_tf.training.train import train
from tests import fakes
from tests.runs import settings


def test_a_start_says_what_the_run_will_need(tmp_path):
    run = settings(tmp_path, steps=10**6)
    components = fakes.make_components(run, fakes.Config())
    text = (
        "The replay will take up to 0.033 GB of memory, the checkpoints up to 0.11 GB"
    )
    assert budget.needs(run, components) == f"{text} of disk."
    little = SimpleNamespace(available=2e6)
    with mock.patch("psutil.virtual_memory", lambda: little):
        assert budget.needs(run, components) == (
            f"{text} of disk; only 0.002 GB of memory are free (see --replay_gb)."
        )


def test_memory_and_disk_stay_within_their_limits(tmp_path):
    run = settings(tmp_path, steps=4000, disk_gb=0.0068, save_every=200.0, eval_every=0)
    worst = {"disk": 0, "replay": 0}
    components = fakes.make_components(run, fakes.Config(ratio=0.02), limit=50)
    limit = budget.replay_bytes(run, components.agent)
    assert limit < 100_000  # the disk's limit is the narrower one
    small = replay.Windows(2, 3, 10**9, limit, 0)
    components = dataclasses.replace(components, replay=small)
    link = os.rename

    def measured(*arguments):
        files = {
            f.stat().st_ino: f.stat().st_size
            for f in tmp_path.rglob("checkpoints/**/*")
        }
        worst["disk"] = max(worst["disk"], sum(files.values()))
        worst["replay"] = max(worst["replay"], small.nbytes)
        return link(*arguments)

    with mock.patch("os.rename", measured):
        train(
            run,
            fakes.Config(),
            [],
            lambda *_: components,
            Terminal(0, io.StringIO()),
            itertools.count().__next__,
        )
    assert 0.5 * limit < worst["replay"] <= limit
    assert limit < worst["disk"] <= run.disk_gb * 1e9
