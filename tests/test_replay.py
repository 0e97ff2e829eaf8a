"""Replay against recorded numbers of the official classes and simple models of it."""

import ast
import functools
import itertools
import json
import pathlib
import sys
import tracemalloc
from collections import Counter

import gymnasium
import numpy as np
import pytest

from dreamer_tf import replay
from dreamer_tf.errors import UserError
from dreamer_tf.replay import records
from dreamer_tf.training import checkpoint

GOLDEN = pathlib.Path(__file__).parent / "golden"
TRACE = json.loads((GOLDEN / "v3" / "replay_trace.json").read_text())


def make_record(number=0, first=False, last=False, size=2):
    """A record whose every entry tells its number."""
    return {
        "image": np.full((size, size, 3), number % 251, np.uint8),
        "number": np.float32(number),
        "action": np.array([number, -number], np.float32),
        "reward": np.float32(number / 2),
        "is_first": np.bool_(first),
        "is_last": np.bool_(last),
        "is_terminal": np.bool_(False),
        "deter": np.full(3, number, np.float32),
    }


RECORD_BYTES = replay.bytes_per_record(make_record())


def add_episode(buffer, rows, stream=0, number=0):
    """Adds a finished episode with records number, number + 1, ..."""
    for i in range(rows):
        buffer.add(make_record(number + i, i == 0, i == rows - 1), stream)


def starts(batch):
    return [tuple(x) for x in batch["id"][:, 0].tolist()]


def chi_square(counts, probabilities):
    """Statistic in standard deviations from its mean, for expected counts >> 1."""
    expected = np.asarray(probabilities) * np.sum(counts)
    degrees = len(expected) - 1
    statistic = np.sum((np.asarray(counts) - expected) ** 2 / expected)
    return (statistic - degrees) / np.sqrt(2 * degrees)


def windows(batch_size=4, length=5, capacity=10**6, memory_bytes=10**7, seed=0):
    return replay.Windows(batch_size, length, capacity, memory_bytes, seed)


def chunks(batch_size=4, length=5, capacity=None, memory_bytes=10**7, **kwargs):
    return replay.EpisodeChunks(batch_size, length, capacity, memory_bytes, **kwargs)


def sequences(batch_size=4, length=5, capacity=None, memory_bytes=10**7, **kwargs):
    kwargs = {"minlen": length, "maxlen": length, **kwargs}
    return replay.EpisodeSequences(batch_size, length, capacity, memory_bytes, **kwargs)


ALL = pytest.mark.parametrize("make", [windows, chunks, sequences])


# Windows: the official class's trace


@pytest.mark.parametrize(
    "name, workers, length", [("workers1_len5", 1, 5), ("workers2_len4", 2, 4)]
)
def test_online_queue_order(name, workers, length):
    trace = TRACE[name]
    buffer = windows(batch_size=1, length=length)
    queued = []
    for step in range(trace["steps"]):
        for worker in range(workers):
            buffer.add(make_record(step), worker)
        for worker, start in buffer.state_dict()["queue"][len(queued) :].tolist():
            stop = start + length - 1
            queued.append(
                {"after_step": step, "worker": worker, "start": start, "stop": stop}
            )
    assert queued == trace["queued"]
    assert len(buffer) == trace["items"]
    order = [starts(buffer.sample())[0] for _ in queued]
    official = trace["sample_order_first_are_online"]
    assert order == [tuple(x) for x in official[: len(queued)]]
    # With the queue empty, any item can come.
    items = {(w, i) for w in range(workers) for i in range(trace["steps"] - length + 1)}
    assert {tuple(x) for x in official} <= items
    assert {starts(buffer.sample())[0] for _ in range(500)} == items


def test_capacity_drops_the_oldest_items():
    trace = TRACE["capacity"]
    buffer = windows(length=trace["length"], capacity=trace["capacity"])
    for step in range(trace["steps"]):
        buffer.add(make_record(step))
    assert len(buffer) == trace["capacity"]
    queue = buffer.state_dict()["queue"][:, 1]  # items that are gone left it too
    assert queue.tolist() == [16]
    seen = {start for _ in range(50) for _, start in starts(buffer.sample())}
    assert seen == set(trace["item_starts"])


def test_annotation():
    trace = TRACE["annotate"]
    buffer = windows(batch_size=1, length=6)
    for first, last in zip(trace["stored_first"], trace["stored_last"]):
        buffer.add(make_record(0, bool(first), bool(last)))
    for _ in range(2):  # the stored rows stay as they are
        batch = buffer.sample()
        assert batch["is_first"][0].tolist() == trace["sampled_first"]
        assert batch["is_last"][0].tolist() == trace["sampled_last"]


def test_first_row_of_a_window_is_first():
    buffer = windows(batch_size=8, length=3)
    for step in range(10):
        buffer.add(make_record(step, first=step == 0))
    batch = buffer.sample()
    assert batch["is_first"][:, 0].all()
    assert not batch["is_first"][:, 1:].any()
    assert not batch["is_last"].any()


# Windows: what is sampled


def test_one_queued_window_is_sampled_once_and_in_a_mixed_batch():
    buffer = windows(batch_size=3, length=4)
    for step in range(9):
        buffer.add(make_record(step))
    assert starts(buffer.sample())[:2] == [(0, 1), (0, 5)]
    assert buffer.state_dict()["queue"].shape == (0, 2)


def test_uniform_over_items_of_uneven_streams():
    buffer = windows(batch_size=50, length=5)
    for stream, rows in enumerate([9, 4, 30, 5]):
        for step in range(rows):
            buffer.add(make_record(step), stream)
    assert len(buffer) == 5 + 0 + 26 + 1
    buffer.sample()  # empties the queue
    counts = Counter(x for _ in range(200) for x in starts(buffer.sample()))
    assert len(counts) == len(buffer)
    assert abs(chi_square(list(counts.values()), np.full(32, 1 / 32))) < 5


@pytest.mark.parametrize("seed", range(4))
def test_windows_hold_what_was_added_and_nothing_dropped(seed):
    rng = np.random.RandomState(seed)
    streams = int(rng.randint(1, 4))
    memory = 600 * RECORD_BYTES
    buffer = windows(8, 7, int(rng.randint(50, 800)), memory, seed)
    added = [[] for _ in range(streams)]
    for step in range(3000):
        # Streams do not advance evenly, and one stands still for a while.
        stream = rng.randint(streams if step % 1000 < 500 else 1)
        record = make_record(step, rng.rand() < 0.1, rng.rand() < 0.1)
        added[stream].append(record)
        buffer.add(record, stream)
        if step < 50 or step % 20:
            continue
        batch = buffer.sample()
        live = {s: (lo, hi) for s, lo, hi in buffer.state_dict()["streams"].tolist()}
        for b, (number, start) in enumerate(starts(batch)):
            rows = np.arange(start, start + 7)
            assert (batch["id"][b] == [[number, row] for row in rows]).all()
            assert live[number][0] <= start and start + 7 <= live[number][1]
            for name in ("image", "number", "action", "reward", "deter"):
                expected = [added[number][row][name] for row in rows]
                np.testing.assert_array_equal(batch[name][b], expected)


@pytest.mark.parametrize("seed", range(3))
def test_items_are_dropped_in_order_of_insertion(seed):
    rng = np.random.RandomState(seed)
    buffer, items, rows = windows(capacity=20, length=3), [], Counter()
    for step in range(300):
        stream = int(rng.choice(3, p=[0.7, 0.2, 0.1]))
        buffer.add(make_record(step), stream)
        rows[stream] += 1
        if rows[stream] >= 3:
            items.append((stream, rows[stream] - 3))
        stored = {
            (number, start)
            for number, first, stop in buffer.state_dict()["streams"].tolist()
            for start in range(first, stop - 2)
        }
        assert stored == set(items[-20:])
        assert len(buffer) == len(stored)


# Memory


@pytest.mark.parametrize("streams", [1, 5])
@ALL
def test_memory_limit_is_never_exceeded(make, streams):
    record_bytes = replay.bytes_per_record(make_record(size=48))
    memory = 1500 * record_bytes
    buffer = make(memory_bytes=memory)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for step in range(15000 // streams):
            for stream in range(streams):
                buffer.add(
                    make_record(step, step % 50 == 0, step % 50 == 49, 48), stream
                )
                assert buffer.nbytes <= memory
            if step >= 50:
                assert len(buffer) > 0
        # What Python keeps for each of some 300 chunks comes on top.
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held < memory + 10**6
    assert buffer.nbytes > memory * 0.95
    # Chunks in use are nearly full, so most of the limit holds rows.
    rows = sum(stop - first for _, first, stop in buffer.state_dict()["streams"])
    assert rows > 1300


def test_full_chunks_of_unused_memory_are_not_allocated():
    buffer = windows(memory_bytes=10**12)
    buffer.add(make_record())
    assert buffer.nbytes == records.MAX_CHUNK_ROWS * RECORD_BYTES


def test_bytes_per_record():
    buffer = windows(memory_bytes=records.MIN_CHUNKS * RECORD_BYTES)
    for step in range(100):  # chunks of one row
        buffer.add(make_record(step))
        assert buffer.nbytes == (step + 1) * RECORD_BYTES
    spaces = {
        "image": gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8),
        "action": gymnasium.spaces.Box(-1, 1, (6,), np.float32),
    }
    order = 8
    assert replay.bytes_per_record(spaces) == 64 * 64 * 3 + 6 * 4 + order


def test_memory_too_small():
    with pytest.raises(UserError, match=r"memory_bytes=50 is less than one record"):
        windows(memory_bytes=50).add(make_record())
    with pytest.raises(
        UserError, match=r"3 environments .* (\d+) would be enough"
    ) as e:
        buffer = windows(length=100, memory_bytes=256 * RECORD_BYTES)
        for stream in range(9):
            buffer.add(make_record(), stream)
    valid = int(str(e.value).split()[-4])
    buffer = windows(length=100, memory_bytes=valid)
    for step in range(1000):
        for stream in range(3):
            buffer.add(make_record(step), stream)
        assert step < 99 or len(buffer) >= 3
    buffer.sample()


def test_every_stream_keeps_a_window_in_the_least_memory_allowed():
    streams, length, accepted = 128, 4, []
    for chunk_rows in range(1, 6):
        memory = records.MIN_CHUNKS * chunk_rows * RECORD_BYTES
        buffer = windows(length=length, memory_bytes=memory)
        try:
            for stream in range(streams):
                buffer.add(make_record(), stream)
        except UserError:
            continue
        accepted.append(chunk_rows)
        for step in range(1, 16):
            for stream in range(streams):
                buffer.add(make_record(step), stream)
                assert step < length or len(buffer) >= streams
    assert accepted == [3, 4, 5]


def test_the_oldest_rows_go_first_even_of_an_idle_stream():
    chunk_rows = 5
    memory = records.MIN_CHUNKS * chunk_rows * RECORD_BYTES
    buffer = windows(batch_size=1, length=5, memory_bytes=memory)

    def add(stream, count):
        for _ in range(count):
            buffer.add(make_record(rows[stream]), stream)
            rows[stream] += 1

    def firsts():
        return {s: lo for s, lo, _ in buffer.state_dict()["streams"].tolist()}

    rows = Counter()
    add(1, 1)
    add(0, 6)  # queues rows 1..5 of stream 0, then of stream 1
    add(1, 6)
    add(2, 3)
    add(0, 1240)
    assert firsts() == {0: 0, 1: 0, 2: 0}
    while firsts()[1] == 0:
        add(0, 1)
    # Stream 1 began first, so its first chunk, and a queued window, are gone.
    assert firsts() == {0: 0, 1: 5, 2: 0}
    assert starts(buffer.sample()) == [(0, 1)]
    assert starts(buffer.sample()) == [(0, 6)]
    while firsts()[2] == 0:
        add(0, 1)
    # Stream 2 had not filled its chunk and goes on where it was.
    assert firsts()[2] == 3
    add(2, 30)
    add(0, 100)
    first = firsts()
    assert first[2] == 3  # young now
    for _ in range(500):
        batch = buffer.sample()
        np.testing.assert_array_equal(batch["number"], batch["id"][..., 1])
        assert all(start >= first[stream] for stream, start in starts(batch))


def test_memory_of_an_episode_cut_off_is_free_again():
    buffer = chunks(memory_bytes=300 * RECORD_BYTES)
    for step in range(250):
        buffer.add(make_record(step, first=step == 0), 1)
    buffer.add(make_record(first=True), 1)
    add_episode(buffer, 200)
    assert len(buffer) == 195


@pytest.mark.parametrize("make", [chunks, sequences])
def test_memory_too_small_for_an_endless_episode(make):
    buffer = make(memory_bytes=300 * RECORD_BYTES)
    with pytest.raises(UserError, match="must hold one finished episode"):
        for step in range(1000):
            buffer.add(make_record(step, first=step == 0))
    assert buffer.nbytes <= 300 * RECORD_BYTES


# Writing back


def test_written_values_come_back():
    buffer = windows(batch_size=6, length=5, memory_bytes=256 * 3 * RECORD_BYTES)
    for step in range(40):
        buffer.add(make_record(step))
    written = {}
    for turn in range(20):
        batch = buffer.sample()
        for row, value in zip(
            batch["id"].reshape(-1, 2)[:, 1], batch["deter"].reshape(-1, 3)
        ):
            assert (value == written.get(int(row), float(row))).all()
        # Without the context row; a row in several windows keeps the last value.
        values = np.random.RandomState(turn).rand(6, 4, 3).astype(np.float32)
        buffer.update(batch["id"], {"deter": values})
        rows = batch["id"][:, 1:, 1].reshape(-1).tolist()
        written.update(zip(rows, values.reshape(-1, 3)))
    assert len(written) > 30


@pytest.mark.parametrize("chunk_rows", [1, 3, 4, 1000])
def test_update_skips_rows_that_are_gone(chunk_rows):
    memory = records.MIN_CHUNKS * chunk_rows * RECORD_BYTES
    buffer = windows(batch_size=1, length=4, capacity=3, memory_bytes=memory)
    for step in range(8):
        buffer.add(make_record(step))
    # The queued window 1..4 is there no more; items 2, 3, 4 are.
    batch = buffer.sample()
    ((_, start),) = starts(batch)
    for step in range(8, 10):
        buffer.add(make_record(step))
    values = -np.arange(1, 13, dtype=np.float32).reshape(1, 4, 3)
    expected = np.array([[row] * 3 for row in range(10)], np.float32)
    expected[start : start + 4] = values[0]
    buffer.update(batch["id"], {"deter": values})
    for _ in range(20):
        batch = buffer.sample()
        rows = batch["id"][0, :, 1]
        assert rows[0] >= 4
        np.testing.assert_array_equal(batch["deter"][0], expected[rows])
    for step in range(10, 30):
        buffer.add(make_record(step))
    buffer.update(batch["id"], {"deter": values})
    assert (buffer.sample()["deter"] > 0).all()


def test_update_refuses_what_it_does_not_know():
    buffer = windows()
    for step in range(5):
        buffer.add(make_record(step))
    ids = buffer.sample()["id"]
    with pytest.raises(ValueError, match="no entry 'other'"):
        buffer.update(ids, {"other": np.zeros((4, 5, 3), np.float32)})
    with pytest.raises(ValueError, match=r"'deter' must have shape \(4, 4, 3\)"):
        buffer.update(ids, {"deter": np.zeros((4, 4, 2), np.float32)})
    buffer.update(ids, {})


# Records


@pytest.mark.parametrize(
    "change, message",
    [
        ({"image": np.zeros((2, 2, 3), np.float32)}, r"'image'.*uint8.*float32"),
        ({"action": np.zeros(3, np.float32)}, r"'action'.*\(2,\).*\(3,\)"),
        ({"reward": 1.0}, r"'reward'.*float32.*float64"),
        ({"extra": np.float32(0)}, r"differs in \['extra'\]"),
        ({"deter": None}, r"differs in \['deter'\]"),
    ],
)
@ALL
def test_records_must_be_like_the_first(make, change, message):
    buffer = make()
    buffer.add(make_record(first=True))
    record = {k: v for k, v in {**make_record(), **change}.items() if v is not None}
    with pytest.raises(UserError, match=message):
        buffer.add(record)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"is_first": None}, "'is_first'"),
        ({"is_last": np.float32(0)}, "'is_last' of a record must be bool"),
        ({"id": np.int64(0)}, "'id'"),
        ({"name": np.array("walker")}, "'name'"),
    ],
)
def test_first_record(change, message):
    record = {k: v for k, v in {**make_record(), **change}.items() if v is not None}
    with pytest.raises(UserError, match=message):
        windows().add(record)


@ALL
def test_settings_and_empty_buffers(make):
    for name in ("batch_size", "length", "memory_bytes", "capacity"):
        with pytest.raises(UserError, match=f"{name} must be at least 1, received 0"):
            make(**{name: 0})
    buffer = make()
    with pytest.raises(UserError, match="Replay holds no"):
        buffer.sample()
    assert len(buffer) == 0 and buffer.nbytes == 0


def test_length_below_minlen():
    with pytest.raises(UserError, match="length=4, received 5"):
        sequences(length=4, minlen=5, maxlen=5)


def test_maxlen_below_minlen():
    with pytest.raises(UserError, match="minlen=5, received 4"):
        sequences(minlen=5, maxlen=4)


@ALL
def test_batch_shapes_and_types(make):
    buffer = make(batch_size=3, length=5)
    add_episode(buffer, 12)
    batch = buffer.sample()
    for name, value in make_record().items():
        assert batch[name].shape == (3, 5, *value.shape)
        assert batch[name].dtype == value.dtype
    assert batch.keys() == {*make_record(), "id"}
    assert batch["id"].shape == (3, 5, 2) and batch["id"].dtype == np.int64
    batch["image"][:] = 255  # a batch belongs to the caller
    assert (buffer.sample()["image"] < 255).all()


# Episodes


@pytest.mark.parametrize("case", [0, 1])
def test_v1_draws_are_the_official_ones(case):
    with np.load(GOLDEN / "v1" / "prims_A.npz", allow_pickle=False) as golden:
        config = json.loads(golden["config"].tobytes())["replay"][case]
        data = {k: golden[f"replay/{case}/{k}"] for k in ("key_order", "key_lengths")}
        expected = [golden[f"replay/{case}/{k}"] for k in ("position", "start")]
    lengths = data["key_lengths"].astype(int).tolist()
    assert lengths == [config["lengths"][int(i)] for i in data["key_order"]]
    rng = np.random.RandomState(0)
    position, start = [], []
    while len(position) < config["chunks"]:
        more = replay.draw_chunks(
            rng, lengths, config["length"], config["rescan"], config["balance"]
        )
        position += more[0]
        start += more[1]
    np.testing.assert_array_equal(position[: config["chunks"]], expected[0])
    np.testing.assert_array_equal(start[: config["chunks"]], expected[1])


@pytest.mark.parametrize(
    "options, probabilities",
    [
        ({}, [1 / 2, 1 / 2, 0]),
        ({"include_end": True}, [1 / 3, 1 / 3, 1 / 3]),
        ({"balance": True}, [1 / 6, 1 / 6, 4 / 6]),
    ],
)
def test_v1_starts(options, probabilities):
    buffer = chunks(batch_size=100, length=4, **options)
    add_episode(buffer, 6)
    count = Counter(x for _ in range(30) for x in starts(buffer.sample()))
    counts = [count[0, i] for i in range(3)]
    possible = np.flatnonzero(probabilities)
    assert sum(np.array(counts)[possible]) == 3000
    assert len(buffer) == len(possible)
    assert (
        abs(chi_square(np.array(counts)[possible], np.array(probabilities)[possible]))
        < 5
    )


@pytest.mark.parametrize(
    "make, options, shortest",
    [
        (chunks, {}, 6),
        (chunks, {"balance": True}, 6),
        (chunks, {"include_end": True}, 5),
        (sequences, {}, 6),
        (sequences, {"minlen": 3}, 4),
    ],
)
def test_only_finished_and_long_enough_episodes(make, options, shortest):
    buffer = make(length=5, **options)
    add_episode(buffer, shortest - 1)
    for step in range(20):
        buffer.add(make_record(step, first=step == 0), 1)
    assert len(buffer) == 0
    add_episode(buffer, shortest, number=100)
    assert len(buffer) > 0
    # A reset in the middle cuts the episode of stream 1 off: it never counts.
    before = len(buffer)
    add_episode(buffer, shortest, 1, number=200)
    assert len(buffer) == 2 * before
    for _ in range(20):
        batch = buffer.sample()
        number = batch["number"]
        assert (number >= 100).all()


def test_v1_chunk_starts_anew_with_its_true_action():
    buffer = chunks(batch_size=50, length=4)
    add_episode(buffer, 30)
    batch = buffer.sample()
    assert batch["is_first"][:, 0].all() and not batch["is_first"][:, 1:].any()
    np.testing.assert_array_equal(batch["action"][:, 0, 0], batch["id"][:, 0, 1])


def test_v2_episodes_are_equally_likely_whatever_their_length():
    rng = np.random.RandomState(0)
    lengths = [60, 200, 51]
    draws = [replay.draw_sequence(rng, lengths, 50, 50) for _ in range(6000)]
    assert {count for _, _, count in draws} == {50}
    positions = np.bincount([p for p, _, _ in draws])
    assert abs(chi_square(positions, np.full(3, 1 / 3))) < 5
    first = np.bincount([s for p, s, _ in draws if p == 0])
    assert len(first) == 11
    assert abs(chi_square(first, np.full(11, 1 / 11))) < 5


def test_v2_prioritize_ends():
    rng = np.random.RandomState(0)
    draws = [replay.draw_sequence(rng, [4], 2, 2, True) for _ in range(6000)]
    counts = np.bincount([s for _, s, _ in draws])
    # Three starts; the last one stands for minlen more.
    assert abs(chi_square(counts, [1 / 5, 1 / 5, 3 / 5])) < 5


@pytest.mark.parametrize(
    "maxlen, rows, probabilities",
    [
        (10, 30, {10: 1 / 4, 9: 1 / 4, 8: 1 / 4, 7: 1 / 4}),
        (5, 30, {5: 1 / 4, 4: 3 / 4}),
        (0, 30, {30: 1 / 4, 29: 1 / 4, 28: 1 / 4, 27: 1 / 4}),
    ],
)
def test_v2_lengths(maxlen, rows, probabilities):
    rng = np.random.RandomState(0)
    draws = [replay.draw_sequence(rng, [rows], 4, maxlen) for _ in range(4000)]
    counts = Counter(count for _, _, count in draws)
    assert counts.keys() == probabilities.keys()
    observed = [counts[k] for k in probabilities]
    assert abs(chi_square(observed, list(probabilities.values()))) < 5
    assert all(0 <= start <= rows - count for _, start, count in draws)


def test_v2_short_sequences_are_put_together():
    buffer = sequences(batch_size=40, length=10, minlen=4, maxlen=6)
    add_episode(buffer, 30)
    batch = buffer.sample()
    assert batch["is_first"][:, 0].all()
    row, is_first = batch["id"][..., 1], batch["is_first"]
    continued = ~is_first[:, 1:]
    assert (np.diff(row, axis=1)[continued] == 1).all()
    sizes = set()
    for b in range(40):
        edges = [*np.flatnonzero(is_first[b]), 10]
        sizes |= set(np.diff(edges)[:-1].tolist())  # the last one is cut
    assert sizes == {4, 5, 6}
    np.testing.assert_array_equal(batch["number"], row)


def test_v2_overwrites_is_first_of_the_episode():
    buffer = sequences(batch_size=50, length=5)
    add_episode(buffer, 9)
    is_first = buffer.sample()["is_first"]
    assert is_first[:, 0].all() and not is_first[:, 1:].any()


@pytest.mark.parametrize("make", [chunks, sequences])
@pytest.mark.parametrize("seed", range(3))
def test_chunks_lie_inside_one_kept_episode(make, seed):
    """Random lengths, streams, cut-off episodes, both limits; against a list."""
    rng = np.random.RandomState(seed)
    buffer = make(8, 5, int(rng.randint(300, 700)), 600 * RECORD_BYTES, seed=seed)
    current, finished, number = {}, [], 0
    for step in range(6000):
        stream = int(rng.randint(3))
        first = stream not in current or rng.rand() < 0.02
        last = rng.rand() < 0.05
        current[stream] = ([] if first else current[stream]) + [number]
        buffer.add(make_record(number, first, last), stream)
        number += 1
        if last:
            episode = current.pop(stream)
            if len(episode) > 5:
                finished.append(episode)
        assert buffer.nbytes <= 600 * RECORD_BYTES
        if step % 20 or len(buffer) == 0:
            continue
        # The newest episodes are there, in whole, within both limits.
        kept = len(buffer.state_dict()["episodes"])
        steps = sum(len(e) - 1 for e in finished[-kept:])
        assert steps <= buffer.capacity
        batch = buffer.sample()
        for numbers in batch["number"].astype(int).tolist():
            (episode,) = (e for e in finished[-kept:] if numbers[0] in e)
            begin = episode.index(numbers[0])
            assert numbers == episode[begin : begin + 5]
    assert kept > 5


@pytest.mark.parametrize("make", [chunks, sequences])
def test_capacity_counts_steps_and_keeps_one_episode(make):
    buffer = make(length=5, capacity=30)
    for i in range(5):
        add_episode(buffer, 11, number=100 * i)
    assert buffer.state_dict()["episodes"][:, 1].tolist() == [22, 33, 44]
    add_episode(buffer, 100, number=1000)
    assert buffer.state_dict()["episodes"].tolist() == [[0, 55, 100]]
    assert (buffer.sample()["number"] >= 1000).all()


# Repeating and continuing


@ALL
def test_same_seed_same_batches(make):
    buffers = [make(seed=seed) for seed in (3, 3, 4)]
    for buffer in buffers:
        add_episode(buffer, 100)
    samples = [[b.sample() for _ in range(5)] for b in buffers]
    for a, b in zip(samples[0], samples[1]):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])
    assert any((a["id"] != c["id"]).any() for a, c in zip(samples[0], samples[2]))


@ALL
def test_peeking_leaves_no_trace(make):
    buffers = [make(), make()]
    for buffer in buffers:
        add_episode(buffer, 100)
    first = buffers[0].peek((1, 2))
    np.testing.assert_equal(buffers[0].state_dict(), buffers[1].state_dict())
    np.testing.assert_equal(buffers[0].peek((1, 2)), first)
    assert (buffers[0].peek((1, 3))["id"] != first["id"]).any()
    np.testing.assert_equal(buffers[0].sample(), buffers[1].sample())


def test_peeking_is_uniform_and_not_from_the_queue():
    buffer = windows(batch_size=50, length=5)
    for number in range(54):
        buffer.add(make_record(number))
    counts = np.zeros(50)
    for seed in range(40):
        np.add.at(counts, buffer.peek(seed)["id"][:, 0, 1], 1)
    assert abs(chi_square(counts, np.full(50, 1 / 50))) < 5


def save(buffer, path):
    """As files: arrays without pickle, the rest as JSON; only what changed."""
    state = buffer.state_dict()
    arrays = {k: v for k, v in state.items() if isinstance(v, np.ndarray)}
    np.savez(path / "arrays.npz", allow_pickle=False, **arrays)
    rest = {k: v for k, v in state.items() if k not in arrays}
    (path / "rest.json").write_text(json.dumps(rest))
    written = []
    for piece in buffer.pieces():
        if piece.changed:
            np.savez(path / f"{piece.name}.npz", **piece.arrays)
            written.append(piece.name)
    buffer.mark_saved()
    return written


def load(buffer, path, damaged=()):
    with np.load(path / "arrays.npz", allow_pickle=False) as arrays:
        rest = json.loads((path / "rest.json").read_text())
        state = {**rest, **arrays}

    def read(name):
        assert name not in damaged
        with np.load(path / f"{name}.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    buffer.load_state_dict(state, read, damaged)


@pytest.mark.parametrize(
    "steps, capacity, rows", [(0, 400, 300), (40, 100, 900), (400, 400, 300)]
)
@ALL
def test_continues_exactly(make, steps, capacity, rows, tmp_path):
    settings = {"capacity": capacity, "memory_bytes": rows * RECORD_BYTES}

    def run(buffers, begin, stop):
        for step in range(begin, stop):
            for stream in range(2):
                record = make_record(step, step % 23 == 0, step % 23 == 22)
                for buffer in buffers:
                    buffer.add(record, stream)
            if len(buffers[0]) == 0 or step % 3:
                continue
            batches = [buffer.sample() for buffer in buffers]
            for buffer, batch in zip(buffers, batches):
                for name in batch:
                    np.testing.assert_array_equal(batch[name], batches[0][name])
                values = np.random.RandomState(step).rand(4, 4, 3)
                buffer.update(batch["id"], {"deter": values.astype(np.float32)})

    original = make(**settings, seed=1)
    for part in range(0, steps, 10):  # as often as a run may be saved
        run([original], part, min(part + 10, steps))
        save(original, tmp_path)
    save(original, tmp_path)
    restored = make(**settings, seed=2)
    add_episode(restored, 10)  # what it held before is forgotten
    load(restored, tmp_path)
    assert len(restored) == len(original)
    run([original, restored], steps, steps + 300)
    assert len(restored) == len(original) > 0


NAMES = ("order", "file", "self", "allow_pickle", "entry", "arr_0", "0", "x", "x.npy")
NAMES += ("a/b", "../a", "entry/0", "log/x", "", "a\0b", "\ud800", "__array__", "Ł")


@pytest.mark.parametrize("shape", [(), (3,)])
@ALL
def test_entries_of_any_name(make, shape, tmp_path):
    """None is one of ours, of NumPy's or of the file's."""
    number = itertools.count()
    original, restored = make(seed=1), make(seed=2)
    for i in range(18):
        record = {name: np.full(shape, next(number), np.float32) for name in NAMES}
        record |= {"is_first": np.array(i % 9 == 0), "is_last": np.array(i % 9 == 8)}
        original.add(record)
    before = original.sample()  # each number once: no two entries are mixed up
    assert len(np.unique([before[name].ravel()[0] for name in NAMES])) == len(NAMES)
    original.update(before["id"], {name: -before[name] for name in ("file", "x")})
    saved = checkpoint.Checkpoints(tmp_path)
    saved.save(1, {"replay": original.state_dict()}, pieces=original.pieces())
    path, _ = saved.latest()
    read = functools.partial(checkpoint.read_piece, path)
    restored.load_state_dict(checkpoint.read(path, "replay"), read)
    for _ in range(3):
        ours, theirs = original.sample(), restored.sample()
        assert list(ours) == list(theirs)
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])
        assert (ours["order"] >= 0).all()


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("windows", lambda: replay.Windows(2, 3, 40, 10**7)),
        ("sequences", lambda: replay.EpisodeSequences(2, 3, 40, 10**7, 0, 3, 3)),
    ],
)
def test_pieces_with_the_names_of_entries(kind, make):
    """Written before entries were numbered; some may be linked to new checkpoints."""
    folder = pathlib.Path(__file__).parent / "replay_of_names"
    with np.load(folder / f"{kind}_next.npz") as arrays:
        expected = dict(arrays)
    old = make()
    read = functools.partial(checkpoint.read_piece, folder / kind)
    old.load_state_dict(checkpoint.read(folder / kind, "replay"), read)
    new, salvaged = make(), make()
    state = json.loads(json.dumps(old.state_dict(), default=np.ndarray.tolist))
    for name in ("streams", "queue", "episodes", "unfinished"):
        if name in state:
            state[name] = np.array(state[name], np.int64)
    fresh = {piece.name: piece.arrays for piece in old.pieces()}

    def mixed(name):
        return fresh[name] if name.startswith("0-") else read(name)

    new.load_state_dict(state, mixed)
    salvaged.load_state_dict(state, mixed, {"1-0"})
    assert 0 < len(salvaged) < len(old)
    for number in range(3):
        for batch in (old.sample(), new.sample()):
            for name, values in batch.items():
                np.testing.assert_array_equal(values, expected[f"{number}/{name}"])


def test_a_state_is_only_loaded_where_it_fits(tmp_path):
    buffer = windows(memory_bytes=10**6)
    for step in range(2000):
        buffer.add(make_record(step))
    save(buffer, tmp_path)
    with pytest.raises(UserError, match="has length 5, this run has 6"):
        load(windows(length=6), tmp_path)
    with pytest.raises(UserError, match="has kind Windows, this run has EpisodeChunks"):
        load(chunks(), tmp_path)
    with pytest.raises(UserError, match=r"memory_bytes=20000 .* needs (\d+)") as e:
        load(windows(memory_bytes=20000), tmp_path)
    needed = int(str(e.value).rstrip(".").split()[-1])
    load(windows(memory_bytes=needed), tmp_path)


def test_imports_nothing_heavy():
    modules = set()
    for file in pathlib.Path(replay.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(node.module)
    others = {m for m in modules if m.split(".")[0] not in sys.stdlib_module_names}
    others = {m for m in others if not m.startswith("dreamer_tf.replay")}
    assert others == {"numpy", "dreamer_tf.errors"}
