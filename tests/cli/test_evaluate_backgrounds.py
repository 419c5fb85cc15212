"""``castlit.evaluate +protocol=backgrounds`` from the command line, on photographs cut out by their masks."""

import json

import pytest

from castlit.evaluation.backgrounds import VARIANTS


@pytest.fixture
def own(repository, tmp_path):
    """Eight photographs of each of three classes, with their masks."""
    whole = repository.parent / "shared" / "data" / "voc_small" / "VOCdevkit" / "VOC2007"
    if not whole.is_dir():
        pytest.skip("the photographs of shared/data/voc_small are not on this machine")
    shown = {}
    for file in sorted((whole / "ImageSets" / "Main").glob("*_trainval.txt")):
        words = file.read_text().split()
        for image, label in zip(words[::2], words[1::2], strict=True):
            if label == "1":
                shown.setdefault(image, []).append(file.name.removesuffix("_trainval.txt"))
    for name in ("aeroplane", "bird", "cat"):
        for kind, folder, suffix in (("images", "JPEGImages", "jpg"), ("masks", "SaliencyMasks", "png")):
            place = tmp_path / "own" / kind / name
            place.mkdir(parents=True)
            for image in [image for image, names in sorted(shown.items()) if names == [name]][:8]:
                (place / f"{image}.{suffix}").symlink_to(whole / folder / f"{image}.{suffix}")
    return tmp_path / "own"


def test_made_variants_and_folder_agree(run_program, own, tmp_path):
    words = ["+protocol=backgrounds", "checkpoint=random", "backbone=tiny_resnet", "protocol.size=64"]
    made = run_program("evaluate", *words, f"data.make_from={own}", "hydra.run.dir=run", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    written = json.loads((tmp_path / "run" / "results.json").read_text())
    results = written["results"]
    assert written["masks"] == "own/masks: as given, castlit did not make them"
    assert list(results) == [*VARIANTS, "bg_gap"]
    assert "54.42" in made.stdout
    root = tmp_path / "run" / "backgrounds"
    words += [f"data.root={root}", "protocol.resize=64", "hydra.run.dir=again"]
    again = run_program("evaluate", *words, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "again" / "results.json").read_text())["results"] == results


def test_missing_data(run_program, tmp_path):
    result = run_program("evaluate", "+protocol=backgrounds", "checkpoint=random", "backbone=tiny_resnet", cwd=tmp_path)
    assert result.returncode == 1
    assert "give data.root=" in result.stderr
    assert "Traceback" not in result.stderr
