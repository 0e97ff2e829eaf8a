import errno
import json
import shutil

import numpy as np
import pytest

from dreamer_tf.errors import UserError
from dreamer_tf.files import write_atomic
from dreamer_tf.training import checkpoint
from dreamer_tf.training.checkpoint import Checkpoints

TREE = {
    "weights": {"enc/kernel": np.arange(6, dtype=np.float32).reshape(2, 3)},
    "flags": [np.array([True, False]), None, "text", 1.5, True],
    "count": 2**100,
    "scalar": np.int64(3),
    "empty": np.zeros((0, 3)),
}


def equal(left, right):
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(
            equal(left[k], right[k]) for k in left
        )
    if isinstance(left, list):
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, np.ndarray | np.generic):
        same = left.dtype == right.dtype and left.shape == right.shape
        return same and np.array_equal(left, right)
    return type(left) is type(right) and left == right


def test_round_trip(tmp_path):
    path = Checkpoints(tmp_path).save(7, {"replay": TREE, "none": {}})
    assert equal(checkpoint.read(path, "replay"), TREE)
    assert checkpoint.read(path, "none") == {}
    assert Checkpoints(tmp_path).latest() == (path, set())
    assert checkpoint.latest(tmp_path) == path


def test_files_of_others_are_covered(tmp_path):
    def write(path):
        (path / "agent.txt").write_text("weights")

    path = Checkpoints(tmp_path).save(7, {}, write)
    assert (path / "agent.txt").read_text() == "weights"
    (path / "agent.txt").write_text("weighty")
    with pytest.raises(UserError, match=r"agent.txt is damaged"):
        checkpoint.verify(path)


def test_the_newest_two_are_kept(tmp_path):
    store = Checkpoints(tmp_path / "new")
    # Frames may repeat: the number decides, also beyond the sixth digit's carry.
    saved = [store.save(frames, {"a": frames}) for frames in (10, 20, 20, 5)]
    assert sorted((tmp_path / "new").iterdir()) == saved[-2:]
    assert checkpoint.read(store.latest()[0], "a") == 5


def test_saved_frames(tmp_path):
    store = Checkpoints(tmp_path)
    assert checkpoint.saved_frames(tmp_path / "none") == 0
    store.save(10, {"a": 1})
    path = store.save(20, {"a": 1})
    assert checkpoint.saved_frames(tmp_path) == 20
    (path / "a.json").write_text("")  # cut off
    assert checkpoint.saved_frames(tmp_path) == 10


def test_nothing_saved(tmp_path):
    assert Checkpoints(tmp_path / "missing").latest() is None
    with pytest.raises(UserError, match=r"no checkpoint in .* yet"):
        checkpoint.latest(tmp_path)


def damages():
    def flip(path):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    def cut(path):
        path.write_bytes(path.read_bytes()[:-1])

    for name in ("a.npz", "a.json", checkpoint.MARKER):
        for damage in (flip, cut, lambda path: path.unlink()):
            yield lambda directory, name=name, damage=damage: damage(directory / name)


@pytest.mark.parametrize("damage", list(damages()))
def test_damaged_ones_are_skipped_then_replaced(tmp_path, damage):
    said = []
    store = Checkpoints(tmp_path, say=said.append)
    good, bad = store.save(1, {"a": TREE}), store.save(2, {"a": TREE})
    damage(bad)
    assert store.latest() == (good, set())
    assert len(said) == 1 and str(bad) in said[0]
    new = store.save(3, {"a": TREE})
    assert sorted(tmp_path.iterdir()) == [good, new]


def test_only_damaged_ones_is_an_error(tmp_path):
    store = Checkpoints(tmp_path, say=lambda text: None)
    (store.save(1, {"a": 1}) / "a.json").write_text("2")
    with pytest.raises(UserError, match=r"No checkpoint in .* is intact"):
        store.latest()


@pytest.mark.parametrize("at", ["savez", "rename"])
def test_a_process_killed_while_writing(tmp_path, monkeypatch, at):
    """Whatever it leaves is ignored, and cleared by the next one."""
    store = Checkpoints(tmp_path)
    good = store.save(1, {"a": TREE})

    def die(*arguments, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        owner = np if at == "savez" else type(tmp_path)
        patch.setattr(owner, at, die)
        with pytest.raises(KeyboardInterrupt):
            store.save(2, {"a": TREE})
    assert Checkpoints(tmp_path).latest() == (good, set())
    assert len(list(tmp_path.iterdir())) == 2
    new = store.save(2, {"a": TREE})
    assert sorted(tmp_path.iterdir()) == [good, new]


def test_a_full_disk(tmp_path, monkeypatch):
    store = Checkpoints(tmp_path)
    good = store.save(1, {"a": TREE})

    def full(*arguments, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(UserError, match=r"cannot be written .No space left on device"):
        store.save(2, {"a": TREE})
    assert list(tmp_path.iterdir()) == [good] == [store.latest()[0]]


@pytest.mark.parametrize("value", [{1: 2}, {2, 3}, np.array([object()])])
def test_only_plain_data(tmp_path, value):
    with pytest.raises(TypeError, match="Checkpoint entry 'a/x"):
        Checkpoints(tmp_path).save(1, {"a": {"x": value}})


def test_pickled_arrays_are_refused(tmp_path):
    path = Checkpoints(tmp_path).save(1, {"a": TREE})
    np.savez(path / "a.npz", a0=np.array([object()]))
    with pytest.raises(UserError, match=r"a.npz is damaged .*allow_pickle"):
        checkpoint.read(path, "a")


def test_write_atomic_replaces(tmp_path):
    path = tmp_path / "file.json"
    for data in (b"one", b"two"):
        write_atomic(path, data)
    assert path.read_bytes() == b"two" and list(tmp_path.iterdir()) == [path]


def test_a_copy_is_a_checkpoint(tmp_path):
    path = Checkpoints(tmp_path / "a").save(1, {"a": TREE})
    shutil.copytree(path, tmp_path / "copy")
    checkpoint.verify(tmp_path / "copy")
    assert set(json.loads((path / checkpoint.MARKER).read_text())) == {
        "a.json",
        "a.npz",
    }
