"""Trainings: from files to a predictor; broken off and gone on with; refused where they are others."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time

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


def test_maps_of_images_of_any_size(trained, photographs):
    _, predictor = trained
    image = read_image(photographs[0])
    for shape in ((48, 64), (7, 300), (1, 1), (200, 20)):
        large = np.resize(image, (*shape, 3))
        values = predictor(large)
        assert values.shape == shape
        assert values.dtype == np.float32
        assert 0 <= values.min() <= values.max() <= 1
    assert not predictor(np.full((30, 40, 3), 80, np.uint8)).any(), "nothing stands out in one colour"


def test_the_predictor_goes_to_other_processes(trained, photographs):
    _, predictor = trained
    image = read_image(photographs[0])
    assert np.array_equal(pickle.loads(pickle.dumps(predictor))(image), predictor(image))


def test_a_finished_folder_trains_nothing_and_keeps_what_is_of_use(trained, photographs, tiny, monkeypatch):
    folder, predictor = trained
    assert sorted(path.name for path in folder.iterdir()) == ["hs_2.pt", NETWORK, "rbd_2.pt", "state.json"]
    assert [path.name for path in folder.parent.glob("pseudo_labels_*/*") if path.suffix == ".done"]
    monkeypatch.setattr(phases, "fit", None)
    again = train_deepusps(photographs, folder, workers=0, accelerator="cpu", **METHODS, **tiny)
    image = read_image(photographs[0])
    assert np.array_equal(again(image), predictor(image))


def test_the_network_learns(photographs, tiny, tmp_path):
    """It finds the blocks of these images, having been told by nobody."""
    more = {**tiny, "epochs": 10, "final_epochs": 60, "lr": 5e-3, "methods": ["rbd"], "rounds": 1}
    predictor = train_deepusps(photographs, tmp_path / "t", workers=0, accelerator="cpu", crf=False, **more)
    inside, outside = [], []
    for i in range(8):
        values = predictor(read_image(next(path for path in photographs if path.stem == str(i))))
        block = np.zeros(values.shape, bool)
        block[10 + i : 30 + i, 8 + 3 * i : 30 + 3 * i] = True
        inside.append(values[block].mean())
        outside.append(values[~block].mean())
    assert np.mean(inside) > np.mean(outside) + 0.4


def test_other_settings_and_other_images_are_told_in_one_line(trained, photographs, tiny, caplog):
    folder, _ = trained
    with pytest.raises(
        InputError, match=r"was trained with width=8 momentum=0.7, and this run has width=16 momentum=0.5"
    ):
        train_deepusps(photographs, folder, workers=0, **METHODS, **{**tiny, "width": 16, "momentum": 0.5})
    train_deepusps(photographs[1:], folder, workers=0, accelerator="cpu", **METHODS, **tiny)
    assert "was trained on other images (10) than these" in caplog.text
    assert weights(folder)


def test_an_unfinished_training_goes_on_only_with_its_images(photographs, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(phases, "fit", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_deepusps(photographs, tmp_path / "t", workers=0, accelerator="cpu", **METHODS, **tiny)
    with pytest.raises(InputError, match="was trained on 10 other images than these 9"):
        train_deepusps(photographs[1:], tmp_path / "t", workers=0, accelerator="cpu", **METHODS, **tiny)
    (tmp_path / "t" / "state.json").write_text("{")
    with pytest.raises(InputError, match=r"state\.json cannot be read: remove"):
        train_deepusps(photographs, tmp_path / "t", workers=0, accelerator="cpu", **METHODS, **tiny)


def test_nothing_to_learn_from(tmp_path):
    with pytest.raises(InputError, match="no images"):
        train_deepusps([], tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_a_sample_of_many(photographs, tiny, tmp_path):
    train_deepusps(photographs, tmp_path / "t", workers=0, accelerator="cpu", train_images=4, **METHODS, **tiny)
    assert json.loads((tmp_path / "t" / "state.json").read_text())["count"] == 4


SCRIPT = """
import json, sys
from pathlib import Path
from castlit.saliency.deepusps import fitting
from castlit.saliency.deepusps.phases import train_deepusps
if __name__ == "__main__":
    fitting.SAVE_EVERY_S = 0
    folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    images = sorted(Path(sys.argv[3]).iterdir())
    train_deepusps(images, folder, workers=0, accelerator="cpu", **settings)
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_comes_to_the_same_network(trained, photographs, tiny, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    folder = tmp_path / "t"
    command = [sys.executable, tmp_path / "script.py", folder, json.dumps({**METHODS, **tiny}), photographs[0].parent]
    kills, patience = 0, 0.1
    while True:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while not (folder / "state.json").exists() and process.poll() is None:
            time.sleep(0.01)  # imports
        try:
            _, errors = process.communicate(timeout=6 + patience if kills else patience)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
            patience += 0.7
            continue
        assert process.returncode == 0, errors
        break
    assert kills >= 2, "it was too fast to be killed"
    wanted, found = weights(trained[0]), weights(folder)
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_going_on_within_a_training_changes_nothing(photographs, tiny, tmp_path, monkeypatch):
    """Broken off after an epoch's checkpoint, the training goes on from there to the same weights."""
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
