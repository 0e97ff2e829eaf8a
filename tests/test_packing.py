"""A replay that keeps latents compact: what it gives back, and what it takes."""

import dataclasses
import itertools

import numpy as np
import pytest

from dreamer_tf import replay
from dreamer_tf.configs import fields, presets, v3
from dreamer_tf.errors import UserError
from dreamer_tf.replay import CompactLatents
from dreamer_tf.training import budget, outlook
from dreamer_tf.training.train import train
from tests import fakes, runs
from tests.test_replay import load, save

CLASSES = 5


def latents(seed, *lead, classes=CLASSES):
    rng = np.random.default_rng(seed)
    stoch = np.eye(classes, dtype=np.float32)[rng.integers(classes, size=(*lead, 3))]
    return {"deter": rng.uniform(-1, 1, (*lead, 4)).astype(np.float32), "stoch": stoch}


def record(number, first=False, last=False):
    flags = {"is_first": np.bool_(first), "is_last": np.bool_(last)}
    return flags | {"number": np.float32(number), **latents(number)}


def windows(compact=True, memory_bytes=10**6, seed=0, **settings):
    packing = CompactLatents(CLASSES) if compact else None
    sizes = {"batch_size": 4, "length": 5, "capacity": 40} | settings
    return replay.Windows(
        **sizes, memory_bytes=memory_bytes, seed=seed, packing=packing
    )


def check(batch, written=None):
    """That a batch holds the latents of its records, or those written to them."""
    for row, number in np.ndenumerate(batch["number"]):
        wanted = (written or {}).get(int(number)) or latents(int(number))
        np.testing.assert_array_equal(batch["stoch"][row], wanted["stoch"])
        np.testing.assert_allclose(batch["deter"][row], wanted["deter"], atol=2**-12)


@pytest.mark.parametrize("classes", [2, 5, 64, 255, 256, 300])
def test_what_was_packed_comes_back(classes):
    packing, values = CompactLatents(classes), latents(0, 7, 2, classes=classes)
    values["stoch"][0, 0] = 0  # the state before an episode
    values["image"] = np.zeros((7, 2, 4, 4, 1), np.uint8)
    packed = packing.pack(values)
    found = packing.unpack(packed)
    assert list(found) == list(values)
    for name, value in found.items():
        assert (value.dtype, value.shape) == (values[name].dtype, values[name].shape)
    np.testing.assert_array_equal(found["stoch"], values["stoch"])
    assert np.abs(found["deter"] - values["deter"]).max() <= 2**-12
    assert packed["stoch"].nbytes == 7 * 2 * 3 * (1 if classes < 256 else 4)
    again = packing.pack(found)  # what is read and written back stays
    for name, value in again.items():
        np.testing.assert_array_equal(value, packed[name])


def test_a_rounded_one_hot_is_one():
    stoch = np.array([[0.0, 1 - 2**-24, 2**-25]], np.float32)
    packing = CompactLatents(3)
    found = packing.unpack(packing.pack({"stoch": stoch}))
    np.testing.assert_array_equal(found["stoch"], [[0, 1, 0]])


@pytest.mark.parametrize(
    "stoch", [[[0.2, 0.8]], [[1.0, 1.0]], [[0.0, 2.0]], [[np.nan, 1.0]], [[0, 1, 0]]]
)
def test_other_numbers_are_refused(stoch):
    with pytest.raises(UserError, match=r"'stoch' must be one-hots of 2 classes"):
        CompactLatents(2).pack({"stoch": np.array(stoch, np.float32)})


def test_windows_give_back_what_was_added_and_written():
    buffer, written = windows(), {}
    for number in range(30):
        buffer.add(record(number, number % 9 == 0))
    for turn in range(10):
        batch = buffer.sample()
        check(batch, written)
        new = latents((turn, 1), 4, 4)  # without the context
        buffer.update(batch["id"], new)
        for place in itertools.product(range(4), range(4)):
            number = int(batch["number"][place[0], 1 + place[1]])
            written[number] = {name: new[name][place] for name in new}
    assert len(written) > 15
    check(buffer.peek(1), written)


def run(buffers, begin, stop):
    for step in range(begin, stop):
        for buffer in buffers:
            buffer.add(record(step, step % 23 == 0, step % 23 == 22))
        if not len(buffers[0]):
            continue
        batches = [buffer.sample() for buffer in buffers]
        for buffer, batch in zip(buffers, batches):
            np.testing.assert_equal(batch, batches[0])
            buffer.update(batch["id"], latents((step, 1), 4, 4))


def test_a_saved_buffer_continues_exactly(tmp_path):
    original = windows(seed=1)
    run([original], 0, 60)
    save(original, tmp_path)
    restored = windows(seed=2)
    load(restored, tmp_path)
    run([original, restored], 60, 120)


def test_pieces_are_small_on_disk_too():
    pieces = {}
    for compact in (False, True):
        buffer = windows(compact)
        run([buffer], 0, 20)
        arrays = [a for piece in buffer.pieces() for a in piece.arrays.values()]
        pieces[compact] = sum(a.nbytes for a in arrays)
    # deter 4 and stoch 3 x 5 numbers of float32; then 2 bytes and 1 byte
    assert pieces[False] - pieces[True] == 20 * (4 * (4 + 15) - (2 * 4 + 3))


def test_rows_next_to_a_damaged_piece_come_back(tmp_path):
    buffer = windows(memory_bytes=256 * 10 * 50, capacity=200)
    for number in range(100):
        buffer.add(record(number, number == 0))
    save(buffer, tmp_path)
    damaged = sorted(piece.name for piece in buffer.pieces())[2]
    found = windows(memory_bytes=256 * 10 * 50, capacity=200)
    load(found, tmp_path, {damaged})
    assert 0 < len(found) < len(buffer)
    for _ in range(5):
        check(found.sample())


def test_a_saved_buffer_is_only_loaded_where_latents_are_kept_alike(tmp_path):
    for compact in (True, False):
        buffer = windows(compact)
        run([buffer], 0, 9)
        save(buffer, tmp_path)
        names = ("compact", "exact") if compact else ("exact", "compact")
        sentence = "has latents {}, this run has {}".format(*names)
        with pytest.raises(UserError, match=sentence):
            load(windows(not compact), tmp_path)
    # States of exact buffers are those that older versions wrote.
    assert "latents" not in windows(compact=False).state_dict()


@pytest.mark.parametrize(
    ("benchmark", "pixels", "rows", "exact", "compact"),
    [
        # rows: of the whole run, but at most 5M
        ("atari", 96 * 96, 5_000_000, 252e9, 129e9),
        ("atari100k", 64 * 64 * 3, 101_000, 6e9, 3e9),
        ("crafter", 64 * 64 * 3, 1_010_000, 56e9, 30e9),
    ],
)
def test_memory_of_the_papers_replays(benchmark, pixels, rows, exact, compact):
    preset, agent = presets.load("v3", benchmark)
    entries = {
        "image": np.zeros(pixels, np.uint8),
        "deter": np.zeros(agent.dyn.deter, np.float32),
        "stoch": np.zeros((agent.dyn.stoch, agent.dyn.classes), np.float32),
        "action": np.zeros(18, np.float32),
        "reward": np.float32(0),
    } | {name: np.bool_(False) for name in ("is_first", "is_last", "is_terminal")}
    small = CompactLatents(agent.dyn.classes).pack(entries)
    assert preset.replay_gb * 1e9 == exact
    for kept, limit in ((entries, exact), (small, compact)):
        assert 0.84 * limit < rows * replay.bytes_per_record(kept) < limit


def test_the_setting_chooses_how_latents_are_kept():
    config = v3.Config()
    for latents in ("exact", "compact"):
        changed = fields.updated(config, {"replay.latents": latents})
        assert replay.make_replay("v3", changed, 10**9, 0).packing.name == latents
    assert config.replay.latents == "exact"
    assert v3.Config() == fields.from_dict(config, {"replay": {"size": 5_000_000}})
    assert replay.make_replay("v3", changed, 10**9, 0).packing.classes == 64


def test_a_run_says_the_memory_of_compact_latents(tmp_path):
    settings = runs.settings(tmp_path, steps=10**6)
    exact = fakes.make_components(settings, fakes.Config())
    agent = exact.agent
    agent.initial_state = lambda size: {"deter": np.zeros((size, 1000), np.float32)}
    compact = dataclasses.replace(exact, replay=windows(memory_bytes=10**10))
    said = [budget.needs(settings, c).split()[6] for c in (exact, compact)]
    assert [float(gb) for gb in said] == [4.0, 2.1]  # the first is the limit
    long = dataclasses.replace(exact, replay=windows(False, 10**8, capacity=10**6))
    short = dataclasses.replace(exact, replay=windows(True, 10**8, capacity=10**6))
    held = [outlook._best(settings, c).items for c in (long, short)]
    assert 1.9 < held[1] / held[0] < 2


def test_a_run_that_was_interrupted_equals_one_that_was_not(tmp_path):
    def components(run, config):
        made = fakes.make_components(run, config)
        small = replay.Windows(2, 3, 1000, 10**9, run.seed, packing=CompactLatents(4))
        return dataclasses.replace(made, replay=small)

    config = fakes.Config(prefill=6)
    whole, part = tmp_path / "whole", tmp_path / "part"
    train(runs.settings(whole), config, [], components)
    for steps in (20, 40):
        train(runs.settings(part, steps=steps), config, [], components)
    np.testing.assert_equal(runs.state(part), runs.state(whole))
    pieces = [v for k, v in runs.state(part).items() if "updated" in k]
    assert {a.dtype for piece in pieces for a in piece.values()} == {np.dtype("f2")}
