"""Atomic writes."""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor

import pytest

from castlit.utils.atomic_write import ALONE, atomic_path, part_of, write_atomic


def test_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "a" / "x.png"
    write_atomic(path, b"old")
    with pytest.raises(TypeError):
        write_atomic(path, "text")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]
    part_of(path, ALONE).mkdir()  # makes the write fail
    with pytest.raises(OSError, match=r"x\.png"):
        write_atomic(path, b"new", writer=ALONE)
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


@pytest.mark.parametrize("writers", [(None, None), ("1", "2")])
def test_writers_have_separate_temporary_files(tmp_path, writers):
    path = tmp_path / "x.txt"
    with atomic_path(path, writer=writers[0]) as first, atomic_path(path, writer=writers[1]) as second:
        assert first != second
        first.write_text("1")
        second.write_text("2")
    assert path.read_text() == "1"
    assert list(tmp_path.iterdir()) == [path]


def test_many_processes_write_one_file(tmp_path):
    path, content = tmp_path / "cache" / "x.bin", [bytes([number]) * 200_000 for number in range(4)]
    with ProcessPoolExecutor(4, multiprocessing.get_context("fork")) as pool:
        list(pool.map(write_atomic, [path] * 80, [content[number % 4] for number in range(80)]))
    assert path.read_bytes() in content
    assert list(path.parent.iterdir()) == [path]


def test_one_writer_has_one_temporary_file(tmp_path):
    path = tmp_path / "x.txt"
    assert part_of(path, ALONE) == part_of(path, ALONE) != part_of(path)
    part_of(path, ALONE).write_text("half")  # of a killed run
    write_atomic(path, b"new", writer=ALONE)
    assert list(tmp_path.iterdir()) == [path]


def test_files_of_killed_processes_are_removed(tmp_path):
    path = tmp_path / "x.txt"
    old, fresh, other = part_of(path), part_of(path), tmp_path / ".somebody_elses.part"
    for left in (old, fresh, other):
        left.write_text("half")
    for left in (old, other):
        os.utime(left, (time.time() - 7200,) * 2)
    write_atomic(path, b"new")
    assert set(tmp_path.iterdir()) == {path, fresh, other}
