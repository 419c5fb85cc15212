"""Files of other runs: whatever they hold, and wherever they are, they are read or end in one error."""

import os

import pytest
import torch
import yaml

from castlit.reporting.read_metrics import by_epoch
from castlit.utils.json_files import load_json, write_json
from castlit.utils.plain_file import read_plain
from castlit.utils.plain_yaml import load_plain, read_plain_yaml

DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    "data", [DEEP, b"1" * 5000, b"2020-99-99", b"\xff\xfe\x00", b"a: \0", b"a: &a [*a]", b"? [a]\n: 1"]
)
def test_damaged_yaml(data):
    with pytest.raises(yaml.YAMLError):
        load_plain(data)


@pytest.mark.parametrize("data", [DEEP, b'{"a":' * 100_000, b"1" * 5000, b"\xff", b"", b"{"])
def test_damaged_json(data):
    with pytest.raises(ValueError, match=r"."):
        load_json(data)


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "row.json"
    write_json(path, {"a": [1, None, "ü"]})
    assert load_json(path.read_bytes()) == {"a": [1, None, "ü"]}
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert load_json(path.read_bytes()) == {"a": [1, None, "ü"]}


def test_files_that_never_end(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * 10_000_001)
    for name, why in {"pipe.yaml": "it is not a file", "large.yaml": "it has 10000001 bytes"}.items():
        with pytest.raises(yaml.YAMLError, match=why):
            read_plain_yaml(tmp_path / name)


def test_folder_whose_name_is_no_text(tmp_path):
    """Torch opens paths in UTF-8 only, and its error was taken for damage."""
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    with (folder / "a.ckpt").open("wb") as file:
        torch.save({"a": torch.arange(3)}, file)
    assert read_plain(folder / "a.ckpt", "a.ckpt")["a"].tolist() == [0, 1, 2]
    # What a configuration says of it.
    assert load_plain(yaml.safe_dump([str(folder)], allow_unicode=True).encode()) == [str(folder)]


@pytest.mark.parametrize("content", ["epoch,step,val/knn\n0,1,2,3,4\n", "x" * 200_000])
def test_damaged_metrics(tmp_path, content):
    (tmp_path / "metrics.csv").write_text(content)
    try:
        assert by_epoch(tmp_path / "metrics.csv", "val/knn") == {}
    except ValueError as error:
        assert "field" in str(error)  # noqa: PT017
