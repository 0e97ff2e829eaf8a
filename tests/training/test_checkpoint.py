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


@pytest.mark.parametrize("number", [errno.ENOTEMPTY, errno.EBUSY, errno.ESTALE])
def test_what_cannot_be_removed_is_said_once(tmp_path, monkeypatch, number):
    said = []
    store = Checkpoints(tmp_path, say=said.append)

    def fail(path, **named):
        raise OSError(number, "busy")

    monkeypatch.setattr(shutil, "rmtree", fail)
    saved = [store.save(frames, {"a": frames}) for frames in range(6)]
    assert store.latest() == (saved[-1], set())
    assert len(said) == len(set(said)) and "cannot be removed (busy)" in said[0]


def test_foreign_names_are_left_alone(tmp_path):
    said = []
    store = Checkpoints(tmp_path / "c", say=said.append)
    first = store.save(1, {"a": 1})
    (tmp_path / "c" / "000099-5").write_text("mine")
    (tmp_path / "c" / "000098-5").symlink_to(tmp_path)
    for name in ("000000-1", "000097-5-unfinished"):
        (tmp_path / "c" / name).mkdir()
        (tmp_path / "c" / name / "thesis.tex").write_text("years of work")
    shutil.copytree(first, tmp_path / "c" / "000096-5")
    (tmp_path / "c" / "000096-5" / "notes.txt").write_text("why it is good")
    saved = [store.save(frames, {"a": frames}) for frames in range(5)]
    assert (tmp_path / "c" / "000099-5").read_text() == "mine"
    assert (tmp_path / "c" / "000098-5").is_symlink()
    assert len(list((tmp_path / "c").rglob("thesis.tex"))) == 2
    assert list((tmp_path / "c").rglob("notes.txt"))
    assert len(said) == 5 and all("is left where it is" in text for text in said)
    assert store.latest() == (saved[-1], set())


@pytest.mark.parametrize("times", [1, 100])
def test_a_failed_reading_does_not_remove_a_checkpoint(tmp_path, monkeypatch, times):
    said = []
    store = Checkpoints(tmp_path, say=said.append)
    old, new = store.save(1, {"a": TREE}), store.save(2, {"a": TREE})
    digest, left = checkpoint.files.digest, [times]

    def failing(path):
        if path.parent == new and left[0]:
            left[0] -= 1
            raise OSError(errno.EIO, "Input/output error")
        return digest(path)

    monkeypatch.setattr(checkpoint.files, "digest", failing)
    assert store.latest()[0] == (new if times == 1 else old)
    assert len(said) == (times > 1)
    monkeypatch.undo()
    store.save(3, {"a": TREE})
    assert new.is_dir() and not checkpoint.verify(new)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "[", "7" * 400, '{"__array__": "a99"}', '{"__array__": [1]}'],
)
def test_hostile_entries_are_a_sentence(tmp_path, text):
    path = Checkpoints(tmp_path).save(1, {"a": TREE})
    (path / "a.json").write_text(text)
    with pytest.raises(UserError, match=r"a.json is damaged \("):
        checkpoint.read(path, "a")


@pytest.mark.parametrize("loop", [[], {}, {"progress": {"frames": "many"}}, None])
def test_frames_that_are_none(tmp_path, loop):
    path = Checkpoints(tmp_path).save(1, {"loop": loop})
    with pytest.raises(UserError, match=r"loop.json is damaged"):
        checkpoint.frames(path)
