"""The files and commands of docs/your_own_method.md work in a folder outside the repository."""

import json
import re
import shlex

import pytest
import torch

SMALL = [
    *("trainer.max_epochs=1", "data.train_count=32", "data.val_count=8", "data.batch_size=8", "data.size=32"),
    *("data.scene_size=40", "data.workers=0", "+callbacks.panel.pixels=32"),
]


@pytest.fixture(scope="module")
def run(run_python):
    """Run Python with these arguments; return its output."""

    def run(words, folder, *more):
        done = run_python(*words, *more, cwd=folder)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def page(repository):
    """The page's code blocks, by language."""
    text = (repository / "docs" / "your_own_method.md").read_text()
    blocks = {}
    for language, block in re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL):
        blocks.setdefault(language, []).append(block)
    assert {name: len(found) for name, found in blocks.items()} == {"python": 2, "yaml": 1, "bash": 1}
    return blocks


@pytest.fixture(scope="module")
def commands(page):
    """The page's two commands without ``python``."""
    lines = [shlex.split(line) for line in page["bash"][0].splitlines()]
    assert [words[:3] for words in lines] == [["python", "-m", "castlit.train"], ["python", "-m", "castlit.evaluate"]]
    return [words[1:] for words in lines]


@pytest.fixture(scope="module")
def project(run, page, commands, tmp_path_factory):
    """A folder with the page's two files, in which its first command has run."""
    folder = tmp_path_factory.mktemp("my_project")
    (folder / "conf" / "experiment").mkdir(parents=True)
    (folder / "my_method.py").write_text(page["python"][0])
    (folder / "conf" / "experiment" / "mine.yaml").write_text(page["yaml"][0])
    run(commands[0], folder, *SMALL)
    return folder


def test_training(project):
    summary = json.loads((project / "first" / "summary.json").read_text())
    assert summary["steps"] == 4
    assert {"train/contrastive", "train/attention", "val/pointing"} <= set(summary["metrics"])
    spec = torch.load(project / "first" / "checkpoints" / "last.ckpt", weights_only=True)["hyper_parameters"]["method"]
    assert spec["_target_"] == "my_method.BarlowTwins"
    assert (spec["backbone"], spec["dim"]) == ("tiny_resnet", 256)


def test_evaluation(run, project, commands):
    small = ["protocol.train_count=60", "protocol.test_count=30", "hydra.run.dir=evaluation"]
    run(commands[1], project, *small)
    results = json.loads((project / "evaluation" / "results.json").read_text())["results"]
    assert {"linear/mixed_rand", "pointing/original"} <= set(results)


def test_loading_the_checkpoint(run, project, page):
    check = "assert type(module.method).__name__ == 'BarlowTwins' and 'layer4.0.conv1.weight' in backbone.state_dict()"
    run(["-c", f"{page['python'][1]}\n{check}"], project)


def test_loading_without_the_class(run_python, project, tmp_path):
    checkpoint = project / "first" / "checkpoints" / "last.ckpt"
    code = f"import castlit; castlit.CASTModule.load_from_checkpoint({str(checkpoint)!r})"
    done = run_python("-c", code, cwd=tmp_path)
    assert "cannot find the class 'my_method.BarlowTwins' in what is imported" in done.stderr
    done = run_python("-c", code.replace(")", ", trust='my_method')"), cwd=tmp_path)
    assert "cannot find the class 'my_method.BarlowTwins': is the package that defines it installed?" in done.stderr


def test_evaluation_without_the_word(run_python, project, commands):
    words = [word for word in commands[1] if not word.startswith("trust=")]
    done = run_python(*words, cwd=project)
    assert done.returncode == 1
    assert done.stderr.startswith("error: first/checkpoints/last.ckpt: cannot find the class 'my_method.BarlowTwins'")
    assert done.stderr.endswith("import my_method first, or give trust=my_method\n")


def test_resume_last(run, project, commands):
    """Without a run folder in the command line, the newest run of the same kind is resumed."""
    words = [word for word in commands[0] if not word.startswith("hydra.run.dir=")]
    run(words, project, *SMALL)
    said = run(words, project, *SMALL, "trainer.max_epochs=2", "resume=last")
    assert "resume=last: continuing from outputs/" in said
    assert "at epoch 1, step 4" in said
    assert " trust=my_method " in said.partition("Evaluate it next:")[2]
    (summary,) = project.glob("outputs/*/*/summary.json")
    assert json.loads(summary.read_text())["steps"] == 8


def test_misspelt_method_key(run_python, project, commands):
    done = run_python(*commands[0], "method.redundncy=1", cwd=project)
    assert done.returncode == 1
    assert "did you mean 'method.redundancy'?" in done.stderr
