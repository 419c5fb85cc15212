"""``castlit.evaluate +protocol=grounding`` from the command line, with any weights."""

import json

import torch
import torchvision


def test_torchvision_weights_against_random(run_program, tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "r18.pth")
    words = ["+protocol=grounding", "checkpoint=r18.pth", "compare=random", "backbone=resnet18", "hydra.run.dir=run"]
    small = ["data.train_count=64", "data.val_count=8", "data.workers=0", "protocol.pictures=4"]
    result = run_program("evaluate", *words, *small, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    written = json.loads((tmp_path / "run" / "results.json").read_text())
    assert written["checkpoint"] == "r18.pth"
    assert f"{written['results']['features']['energy']:.3f}" in result.stdout
    assert (tmp_path / "run" / "grounding.html").stat().st_size < 1e6
    assert "grounding.html" in result.stdout


def test_photographs_with_masks(run_program, tmp_path, mini):
    data = [
        "data=folder",
        f"data.images={mini / 'val2017'}",
        f"data.masks={mini / 'masks' / 'val2017'}",
        "data.size=96",
    ]
    words = ["checkpoint=random", "backbone=tiny_resnet", "data.batch_size=16", "hydra.run.dir=run"]
    result = run_program("evaluate", "+protocol=grounding", *data, *words, "data.workers=0", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())["results"]
    assert set(results) == {"features", "a Gaussian in the centre"}


def test_one_line_errors(run_program, tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "r18.pth")
    for words, told in (
        (["checkpoint=r18.pth", "backbone=resnet50"], "its weights are not those of resnet50"),
        (["checkpoint=random", "compare=none.ckpt", "backbone=tiny_resnet"], "compare=none.ckpt: no such file"),
        (["checkpoint=random", "backbone=tiny_resnet", "protocol.layer=layr4"], "did you mean 'layer4'"),
    ):
        small = ["data.train_count=16", "data.val_count=8", "data.workers=0", "hydra.run.dir=run"]
        result = run_program("evaluate", "+protocol=grounding", *words, *small, cwd=tmp_path)
        assert result.returncode == 1
        assert told in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr


def test_cast_against_random(run_program, tmp_path):
    """The untrained row answers the same question as the trained one: the method's own."""
    small = ["data.train_count=16", "data.val_count=8", "data.workers=0"]
    train = [*small, "data.batch_size=8", "method.queue_size=16", "trainer.max_epochs=1", "hydra.run.dir=train"]
    assert run_program("train", *train, cwd=tmp_path).returncode == 0
    words = ["+protocol=grounding", "checkpoint=train/checkpoints/last.ckpt", "compare=random", "protocol.pictures=4"]
    runs = []
    for name in ("one", "two"):
        result = run_program("evaluate", *words, *small, f"hydra.run.dir={name}", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        runs.append(json.loads((tmp_path / name / "results.json").read_text())["results"])
    assert runs[0] == runs[1], "the seed decides about the weights"
    assert {"pretext", "pretext (compare)", "features", "features (compare)"} <= set(runs[0])
    assert "more_energy" in runs[0]["pretext"]
    assert runs[0]["pretext (compare)"]["images"] == 8
    assert runs[0]["pretext (compare)"]["energy"] > 0
    assert runs[0]["pretext (compare)"]["energy"] != runs[0]["pretext"]["energy"]
    other = run_program("evaluate", *words, *small, "seed=1", "hydra.run.dir=three", cwd=tmp_path)
    assert other.returncode == 0, other.stderr
    third = json.loads((tmp_path / "three" / "results.json").read_text())["results"]
    assert third["pretext"] == runs[0]["pretext"] | {"more_energy": third["pretext"]["more_energy"]}
    assert third["pretext (compare)"] != runs[0]["pretext (compare)"]
    swapped = ["+protocol=grounding", "checkpoint=random", "compare=train/checkpoints/last.ckpt", "protocol.pictures=0"]
    shuffled = run_program(
        "evaluate", *swapped, *small, "protocol.shuffled=true", "hydra.run.dir=four", cwd=tmp_path
    )  # the other way round, and with keys of its own
    assert shuffled.returncode == 0, shuffled.stderr
    assert "random, compared with train/checkpoints/last.ckpt" in shuffled.stdout
    content = json.loads((tmp_path / "four" / "results.json").read_text())
    assert (content["checkpoint"], content["compare"]) == ("random", "train/checkpoints/last.ckpt")
    for name in ("pretext", "features"):
        assert content["results"][name]["energy"] == runs[0][f"{name} (compare)"]["energy"]
        assert content["results"][f"{name} (compare)"]["energy"] == runs[0][name]["energy"]
    assert {"pretext_shuffled_keys", "pretext_shuffled_keys (compare)"} <= set(content["results"])
    other_network = [*swapped, *small, "backbone=resnet18", "hydra.run.dir=five"]
    assert run_program("evaluate", *other_network, cwd=tmp_path).returncode == 0
    fifth = json.loads((tmp_path / "five" / "results.json").read_text())["results"]
    assert "pretext" not in fifth, "the backbone that was asked for is not the method's"
