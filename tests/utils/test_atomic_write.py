"""Atomic writes."""

import pytest

from castlit.utils.atomic_write import atomic_path, part_of, write_atomic


def test_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "a" / "x.png"
    write_atomic(path, b"old")
    with pytest.raises(TypeError):
        write_atomic(path, "text")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]
    part_of(path).mkdir()  # makes the write fail
    with pytest.raises(OSError, match=r"x\.png"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"


def test_longest_file_name(tmp_path):
    path = tmp_path / ("x" * 251 + ".png")
    write_atomic(path, b"data", lasting=True)
    assert path.read_bytes() == b"data"


def test_atomic_path_renames_at_the_end(tmp_path):
    path = tmp_path / "a" / "x.txt"
    with atomic_path(path) as part:
        part.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    with pytest.raises(TypeError), atomic_path(path) as part:
        part.write_text(b"fails")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_writers_have_separate_temporary_files(tmp_path):
    path = tmp_path / "x.txt"
    with atomic_path(path, writer="1") as first, atomic_path(path, writer="2") as second:
        assert first != second
        first.write_text("1")
        second.write_text("2")
    assert path.read_text() == "1"
