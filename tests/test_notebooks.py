"""The notebooks run, and their committed outputs have small pictures, no errors and no local paths."""

import json

import pytest

NAMES = [
    "01_quickstart",
    "02_crops_and_masks",
    "03_attention",
    "04_your_own_data",
    "05_your_own_method",
]


def test_every_notebook_is_listed(repository):
    assert sorted(path.stem for path in (repository / "notebooks").glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_committed_outputs(repository, name):
    path = repository / "notebooks" / f"{name}.ipynb"
    assert path.stat().st_size < 300_000
    outputs = [output for cell in json.loads(path.read_text())["cells"] for output in cell.get("outputs", [])]
    assert any("image/jpeg" in output.get("data", {}) for output in outputs), "it was committed without its pictures"
    for output in outputs:
        assert output["output_type"] != "error"
        text = json.dumps({key: value for key, value in output.items() if key != "data"})
        assert not any(place in text for place in ("/home/", "/tmp/", "/root/", "/usr/"))


@pytest.mark.parametrize("name", NAMES)
def test_no_cell_needs_a_shell(repository, name):
    """Where Python has the function, programs are for the command line: on Windows and in hosted notebooks, too."""
    cells = json.loads((repository / "notebooks" / f"{name}.ipynb").read_text())["cells"]
    for source in ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"):
        assert not any(line.lstrip().startswith(("!", "%")) for line in source.splitlines())
        assert "subprocess" not in source


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:.*without encryption.*")
def test_notebook_runs(repository, tmp_path, name):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.read(repository / "notebooks" / f"{name}.ipynb", 4)
    client = nbclient.NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    wanted = [[output.output_type for output in cell.get("outputs", [])] for cell in notebook.cells]
    client.execute()
    assert all(output.output_type != "error" for cell in notebook.cells for output in cell.get("outputs", []))
    # What printed or drew in the committed run does so again.
    for cell, types in zip(notebook.cells, wanted, strict=True):
        found = {output.output_type for output in cell.get("outputs", [])}
        assert set(types) <= found, cell.source
