"""Files that are whole or not there."""

import pytest

from castlit.utils.atomic_write import part_of, write_whole


def test_what_was_there_stays_where_writing_fails(tmp_path):
    path = tmp_path / "a" / "x.png"
    write_whole(path, b"old")
    with pytest.raises(TypeError):
        write_whole(path, "text")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]
    part_of(path).mkdir()  # so that it cannot be written
    with pytest.raises(OSError, match=r"x\.png"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"


def test_names_as_long_as_they_can_be(tmp_path):
    path = tmp_path / ("x" * 251 + ".png")
    write_whole(path, b"data", lasting=True)
    assert path.read_bytes() == b"data"
