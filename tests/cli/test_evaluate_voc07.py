"""``castlit.evaluate +protocol=voc07`` from the command line, on real photographs in VOC's layout."""

import json

import pytest

CLASSES = ["bird", "cat", "person"]


@pytest.fixture
def devkit(repository, tmp_path):
    """Photographs with one of three classes, 12 + 6 of each, and image lists for these classes with separate names."""
    whole = repository.parent / "shared" / "data" / "voc_small" / "VOCdevkit" / "VOC2007"
    if not whole.is_dir():
        pytest.skip("the photographs of shared/data/voc_small are not on this machine")
    top = tmp_path / "VOCdevkit" / "VOC2007"
    main = top / "ImageSets" / "Main"
    main.mkdir(parents=True)
    (top / "JPEGImages").symlink_to(whole / "JPEGImages")
    for split, count in (("trainval", 12), ("test", 6)):
        lists = {name: (whole / "ImageSets" / "Main" / f"{name}_{split}.txt").read_text().split() for name in CLASSES}
        labels = {name: dict(zip(words[::2], words[1::2], strict=True)) for name, words in lists.items()}
        chosen = []
        for name in CLASSES:
            chosen += [image for image, label in labels[name].items() if label == "1" and image not in chosen][:count]
        for name in CLASSES:
            lines = [f"{image} {labels[name][image]}" for image in chosen]
            (main / f"my_{name}_{split}.txt").write_text("\n".join(lines))
    return tmp_path / "VOCdevkit"


def test_table_results_and_kept_features(run_program, devkit, tmp_path):
    words = ["+protocol=voc07", "checkpoint=random", "backbone=tiny_resnet", f"data.root={devkit}", "protocol.size=64"]
    words += ["protocol.processes=1"]  # tests/evaluation/voc07/test_svm.py has several
    result = run_program("evaluate", *words, "hydra.run.dir=run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / "run" / "results.json").read_text())["results"]
    assert list(figures) == ["mAP", "AP/my_bird", "AP/my_cat", "AP/my_person"]
    assert figures["mAP"] == pytest.approx(sum(list(figures.values())[1:]) / 3)
    assert 100 / 3 < figures["mAP"] <= 100
    assert "73.1" in result.stdout
    assert "unverified" in result.stdout
    assert (tmp_path / "run" / "voc07.csv").is_file()
    kept = sorted((tmp_path / "outputs" / "castlit_features").iterdir())
    assert len(kept) == 2
    again = run_program("evaluate", *words, "hydra.run.dir=again", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "again" / "results.json").read_text())["results"] == figures
    assert sorted((tmp_path / "outputs" / "castlit_features").iterdir()) == kept


def test_wrong_layout(run_program, tmp_path):
    words = ["+protocol=voc07", "checkpoint=random", "backbone=tiny_resnet"]
    result = run_program("evaluate", *words, f"data.root={tmp_path}", cwd=tmp_path)
    assert result.returncode == 1
    assert "is not laid out as VOCdevkit" in result.stderr
    assert "Traceback" not in result.stderr
    result = run_program("evaluate", *words, cwd=tmp_path)
    assert result.returncode == 1
    assert "data.root must be given" in result.stderr
