"""Files and directories that are replaced as a whole."""

import pytest

from dreamer_tf.errors import UserError
from dreamer_tf.files import replacing


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.gif"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    with (
        pytest.raises(UserError, match=r"a.gif cannot be written \(.*full"),
        replacing(path) as temporary,
    ):
        raise OSError(28, "The disk is full")
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]
    assert path.read_text() == "old"


def test_a_directory_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "new" / "out"
    for number in range(2):
        with replacing(path) as temporary:
            temporary.mkdir()
            (temporary / f"file{number}").write_text("")
    assert [p.name for p in path.iterdir()] == ["file1"]
    with (
        pytest.raises(UserError, match=r"--out=here cannot be written \(full\)"),
        replacing(path, "--out=here") as temporary,
    ):
        temporary.mkdir()
        (temporary / "half").write_text("")
        raise OSError(28, "full")
    assert [p.name for p in path.iterdir()] == ["file1"]
    assert [p.name for p in path.parent.iterdir()] == ["out"]
