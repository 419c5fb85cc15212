"""Trainings from files to a predictor: resumed after interruptions, refused with other settings."""

import json
import pickle
import subprocess

import numpy as np
import pytest
import torch

from castlit.data.io.images import read_image
from castlit.saliency.deepusps import fit as fitting
from castlit.saliency.deepusps import phases
from castlit.saliency.deepusps.phases import NETWORK, train_deepusps
from castlit.utils.validation import InputError

METHODS = {"methods": ["rbd", "hs"], "rounds": 2}


@pytest.fixture(scope="module")
def trained(photographs, tiny, tmp_path_factory):
    """A finished training: its folder and its predictor."""
    folder = tmp_path_factory.mktemp("trained") / "training"
    return folder, train_deepusps(photographs, folder, workers=0, accelerator="cpu", **METHODS, **tiny)


def weights(folder):
    return torch.load(folder / NETWORK, weights_only=True)


def test_images_of_any_size(trained, photographs):
    _, predictor = trained
    image = read_image(photographs[0])
    for shape in ((48, 64), (7, 300), (1, 1), (200, 20)):
        large = np.resize(image, (*shape, 3))
        values = predictor(large)
        assert values.shape == shape
        assert values.dtype == np.float32
        assert 0 <= values.min() <= values.max() <= 1
    assert not predictor(np.full((30, 40, 3), 80, np.uint8)).any(), "an image of a single colour"


def test_predictor_can_be_pickled(trained, photographs):
    _, predictor = trained
    image = read_image(photographs[0])
    assert np.array_equal(pickle.loads(pickle.dumps(predictor))(image), predictor(image))


def test_finished_folder_trains_nothing(trained, photographs, tiny, monkeypatch):
    folder, predictor = trained
    assert sorted(path.name for path in folder.iterdir()) == ["hs_2.pt", NETWORK, "rbd_2.pt", "state.json"]
    assert [path.name for path in folder.parent.glob("pseudo_labels_*/*") if path.suffix == ".done"]
    monkeypatch.setattr(phases, "fit", None)
    again = train_deepusps(photographs, folder, workers=0, accelerator="cpu", **METHODS, **tiny)
    image = read_image(photographs[0])
    assert np.array_equal(again(image), predictor(image))


def test_predictor_finds_the_blocks(photographs, tiny, tmp_path):
    """Without any label."""
    more = {**tiny, "epochs": 10, "final_epochs": 60, "lr": 5e-3, "methods": ["rbd"], "rounds": 1}
    predictor = train_deepusps(photographs, tmp_path / "t", workers=0, accelerator="cpu", crf=False, fused=0, **more)
    inside, outside = [], []
    for i in range(8):
        values = predictor(read_image(next(path for path in photographs if path.stem == str(i))))
        block = np.zeros(values.shape, bool)
        block[10 + i : 30 + i, 8 + 3 * i : 30 + 3 * i] = True
        inside.append(values[block].mean())
        outside.append(values[~block].mean())
    assert np.mean(inside) > np.mean(outside) + 0.4


def test_other_settings_and_images(trained, photographs, tiny, caplog):
    folder, _ = trained
    with pytest.raises(
        InputError, match=r"was trained with width=8 momentum=0.7, and this run has width=16 momentum=0.5"
    ):
        train_deepusps(photographs, folder, workers=0, **METHODS, **{**tiny, "width": 16, "momentum": 0.5})
    train_deepusps(photographs[1:], folder, workers=0, accelerator="cpu", **METHODS, **tiny)
    assert "was trained on other images (10) than these" in caplog.text
    assert weights(folder)


def test_unfinished_training_refuses_other_images(photographs, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(phases, "fit", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_deepusps(photographs, tmp_path / "t", workers=0, accelerator="cpu", **METHODS, **tiny)
    with pytest.raises(InputError, match="was trained on 10 other images than these 9"):
        train_deepusps(photographs[1:], tmp_path / "t", workers=0, accelerator="cpu", **METHODS, **tiny)
    (tmp_path / "t" / "state.json").write_text("{")
    with pytest.raises(InputError, match=r"state\.json cannot be read: remove"):
        train_deepusps(photographs, tmp_path / "t", workers=0, accelerator="cpu", **METHODS, **tiny)


def test_new_versions_of_the_methods_make_new_pseudo_labels(photographs, tiny, tmp_path, monkeypatch):
    folders = []

    def note(paths, folder, *_):
        folders.append(folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(phases, "make_pseudo_labels", note)
    for version in (2, 3, 2):
        monkeypatch.setattr(phases, "METHODS_VERSION", version)
        with pytest.raises(KeyboardInterrupt):
            train_deepusps(photographs, tmp_path / "t", workers=0, accelerator="cpu", **tiny)
    assert folders[0] == folders[2] != folders[1]


def test_nothing_to_learn_from(tmp_path):
    with pytest.raises(InputError, match="no images"):
        train_deepusps([], tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_train_images_limits_the_sample(photographs, tiny, tmp_path):
    train_deepusps(photographs, tmp_path / "t", workers=0, accelerator="cpu", train_images=4, **METHODS, **tiny)
    assert json.loads((tmp_path / "t" / "state.json").read_text())["count"] == 4


SCRIPT = """
import json, sys
from pathlib import Path
from castlit.saliency.deepusps import fit
from castlit.saliency.deepusps.phases import train_deepusps
if __name__ == "__main__":
    fit.SAVE_EVERY_S = 0
    folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    images = sorted(Path(sys.argv[3]).iterdir())
    train_deepusps(images, folder, workers=0, accelerator="cpu", **settings)
"""


def test_kills_do_not_change_the_network(run_python, trained, photographs, tiny, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    folder = tmp_path / "t"
    words = [tmp_path / "script.py", folder, json.dumps({**METHODS, **tiny}), photographs[0].parent]
    kills, patience = 0, 0.5
    while True:
        try:
            done = run_python(*words, cwd=tmp_path, timeout=patience)
        except subprocess.TimeoutExpired:
            kills += 1
            patience += 0.7
            continue
        assert done.returncode == 0, done.stderr
        break
    assert kills >= 2, "it was too fast to be killed"
    wanted, found = weights(trained[0]), weights(folder)
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_resume_within_training(photographs, tiny, tmp_path, monkeypatch):
    """Interrupted after an epoch's checkpoint, the training resumes from there to the same weights."""
    from castlit.saliency.deepusps.training import SaliencyTraining

    settings = {**tiny, "methods": ["rbd"], "rounds": 0, "final_epochs": 4}
    train_deepusps(photographs, tmp_path / "whole", workers=0, accelerator="cpu", **settings)
    monkeypatch.setattr(fitting, "SAVE_EVERY_S", 0.0)
    step, epochs = SaliencyTraining.training_step, []

    def breaking(self, batch, batch_idx):
        epochs.append(self.current_epoch)
        if self.current_epoch == 2 and epochs.count(2) == 1 and len(epochs) < 8:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SaliencyTraining, "training_step", breaking)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train_deepusps(photographs, tmp_path / "broken", workers=0, accelerator="cpu", **settings)
    assert (tmp_path / "broken" / "training_1.ckpt").exists()
    seen = len(epochs)

    def counting(self, batch, batch_idx):
        epochs.append(self.current_epoch)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SaliencyTraining, "training_step", counting)
    train_deepusps(photographs, tmp_path / "broken", workers=0, accelerator="cpu", **settings)
    assert min(epochs[seen:]) == 2
    wanted, found = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
