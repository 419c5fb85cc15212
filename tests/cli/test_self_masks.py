"""data.masks=self on the command line: killed runs resume exactly, and wrong settings are refused."""

import json

import pytest
import torch
from PIL import Image

from castlit.data.scenes import Scenes

SMALL = [
    "+experiment=cast_mocov2",
    "data=folder",
    "data.images=images",
    "data.masks=self",
    "data.size=32",
    "data.batch_size=4",
    "data.workers=0",
    "budget.backbone=tiny_resnet",
    "budget.queue_size=16",
    "trainer.max_epochs=5",
    "trainer.check_val_every_n_epoch=2",
    "trainer.log_every_n_steps=1",
    "callbacks.self_masks.warmup_epochs=1",
    "callbacks.self_masks.every_n_epochs=2",
    "+callbacks.panel.pixels=32",
    "hydra.run.dir=run",
]


@pytest.fixture(scope="module")
def train(run_program, repository):
    """Run castlit.train; the callbacks of tests/support/cuts.py are found."""

    def run(cwd, *arguments, words=SMALL):
        path = str(repository / "tests" / "support")
        return run_program("train", *words, *arguments, cwd=cwd, PYTHONPATH=path)

    return run


def add_photographs(folder, count=12):
    (folder / "images").mkdir(parents=True)
    for number, image in enumerate(Scenes(count, size=40, seed=0).images):
        Image.fromarray(image).save(folder / "images" / f"{number:02d}.png")


@pytest.fixture
def photographs(tmp_path):
    add_photographs(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    add_photographs(folder)
    result = train(folder)
    assert result.returncode == 0, result.stderr
    return folder / "run", result


def error(code, err):
    assert code == 1
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    return line


def assert_same(folder, other):
    first, second = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (folder, other)
    )
    assert list(first) == list(second)
    for name, tensor in second.items():
        assert torch.equal(first[name], tensor), name
    for name in ("metrics.csv", "gradcam.png"):
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    masks = [{path.name: path.read_bytes() for path in run.rglob("epoch_*/train/*")} for run in (folder, other)]
    assert masks[0] == masks[1]
    assert not {path.name for path in folder.rglob("*")} - {path.name for path in other.rglob("*")}, (
        "nothing lies about"
    )


def test_run_makes_masks(whole):
    folder, result = whole
    assert {path.name for path in (folder / "self_masks").iterdir()} == {"epoch_1", "epoch_3"}
    assert len(list((folder / "self_masks" / "epoch_3" / "train").glob("*.png"))) == 12
    assert "The masks are now those of epoch 3" in result.stdout
    summary = json.loads((folder / "summary.json").read_text())["metrics"]
    assert summary["train/empty_masks"]["end"] < 1
    assert summary["val/pointing"]["end"] >= 0
    assert (folder / "gradcam.png").is_file()
    assert "castlit.evaluate" not in result.stdout, "its own masks are no ground truth"


@pytest.mark.parametrize(
    "cut",
    [
        ["KillWhileMasking", "+callbacks.cut.count=18"],  # while the masks are made a second time
        ["SignalAt", "+callbacks.cut.hook=on_train_epoch_start", "+callbacks.cut.count=4"],  # right after that
        ["SignalAt", "+callbacks.cut.hook=on_train_batch_start", "+callbacks.cut.count=9"],
    ],
)
def test_killed_run_resumes_exactly(train, whole, photographs, cut):
    often = "callbacks.checkpoint.every_n_train_steps=1"
    kind, *options = cut
    killed = train(photographs, often, f"+callbacks.cut._target_=cuts.{kind}", *options)
    assert killed.returncode == -9, killed.stderr
    result = train(photographs, often, "resume=last")
    assert result.returncode == 0, result.stderr
    assert "resume=last: continuing from run/checkpoints/last.ckpt" in result.stdout
    assert_same(photographs / "run", whole[0])


def test_other_options_start_new_run(train, photographs):
    words = [*SMALL[:-1], "trainer.max_epochs=2", "resume=last"]
    assert train(photographs, words=words).returncode == 0
    other = train(photographs, "callbacks.self_masks.refine=none", words=words)
    assert "is another run, they differ in callbacks.self_masks.refine" in other.stdout


def test_refused_settings(train, photographs, run_program, whole):
    for words, told in (
        (["data.masks=Self"], "in small letters"),
        (["~callbacks.self_masks"], "castlit.callbacks.SelfMasks (callbacks.self_masks), which is not there"),
        (["trainer.max_epochs=1"], "set callbacks.self_masks.warmup_epochs"),
    ):
        result = train(photographs, *words)
        assert told in error(result.returncode, result.stderr)
    words = ["+protocol=grounding", f"checkpoint={whole[0] / 'checkpoints' / 'last.ckpt'}", *SMALL[1:5]]
    result = run_program("evaluate", *words, cwd=photographs)
    assert "give a folder of masks" in error(result.returncode, result.stderr)


def test_made_masks_as_data(whole, run_program):
    folder = whole[0]
    words = ["+protocol=grounding", f"checkpoint={folder / 'checkpoints' / 'last.ckpt'}", "data=folder", "data.size=32"]
    words += ["data.images=images", f"data.masks={folder / 'self_masks' / 'epoch_3' / 'train'}"]
    result = run_program(
        "evaluate", *words, "data.on_bad=unconstrained", "data.workers=0", "protocol.pictures=4", cwd=folder.parent
    )
    assert result.returncode == 0, result.stderr
    assert "pointing" in result.stdout
