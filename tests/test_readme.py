"""What the README shows works as it stands."""

import re
import subprocess
import sys

import pytest


def blocks(repository, language):
    return re.findall(rf"```{language}\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)


@pytest.mark.slow
def test_the_ten_lines_of_python(repository, tmp_path):
    (example,) = blocks(repository, "python")
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
    assert "hydra" not in example
    check = "\nassert 'layer4.0.conv1.weight' in backbone.state_dict()\nassert trainer.global_step == 4\n"
    check += "import sys; assert 'hydra' not in sys.modules, 'the library must not need Hydra'\n"
    result = subprocess.run(
        [sys.executable, "-c", example + check], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr


def test_every_command_names_what_exists(repository):
    """Experiments, groups and protocols that the README types are there."""
    text = "\n".join(blocks(repository, "bash"))
    used = set(re.findall(r"\+?\b(experiment|protocol|data|trainer|logger)=(\w+)", text))
    assert ("experiment", "cast_mocov2") in used
    for group, option in used:
        assert (repository / "conf" / group / f"{option}.yaml").is_file(), (group, option)
    makefile = (repository / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", text, re.MULTILINE):
        assert f"\n{target}:" in makefile


def test_the_order_of_the_readme(repository):
    text = (repository / "README.md").read_text()
    parts = ["# castlit", "![", "## Install", "## Two commands", "## Ten lines of Python", "## How it works"]
    places = [text.index(part) for part in [*parts, "## COCO run", "## Citation"]]
    assert places == sorted(places)
