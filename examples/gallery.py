"""A gallery: the same images under a training without CAST and one with it, before and after.

    python -m castlit.train +experiment=mocov2 hydra.run.dir=runs/moco
    python -m castlit.train +experiment=cast_mocov2 hydra.run.dir=runs/cast
    python examples/gallery.py runs/moco runs/cast gallery.jpg

Takes the folders of any runs of castlit.train with the same data=, on photographs as on the built-in scenes. Start it
from the folder in which they were started, since the paths of their photographs may be relative. docs/gallery.md and
docs/what_the_cam_explains.md show what it draws.
"""

import argparse
import sys
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import Tensor

import castlit
from castlit.attention import has_object
from castlit.evaluation.grounding.classifier import train_classifier
from castlit.evaluation.grounding.questions import questions
from castlit.evaluation.network import Network
from castlit.reporting.images import encode, enlarge, grid, overlay_cam, overlay_mask, to_picture
from castlit.resume.checkpoint_io import read_checkpoint
from castlit.utils.atomic_write import write_atomic
from castlit.utils.validation import InputError

CLASSIFIER_IMAGES = 2048

Cams = list[tuple[str, NDArray[np.float32]]]
"""A label, and the CAMs (N, h, w) of the images."""


class Run:
    """A run's network, and where it looked before it was trained.

    Args:
        folder: As castlit.train left it.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "config.yaml").is_file():
            raise InputError(f"{folder}: no folder of a run of castlit.train (it has no config.yaml)")
        config = OmegaConf.load(folder / "config.yaml")
        file = folder / "checkpoints" / "last.ckpt"
        self.name = "\n".join(textwrap.wrap(config.name.replace("_", " "), 12))
        self.epochs: int = config.trainer.max_epochs
        self.data: pl.LightningDataModule = instantiate(config.data)
        self.module = castlit.CASTModule.load_from_checkpoint(file, map_location="cpu").eval()
        states = read_checkpoint(file, str(file), "castlit's training")["callbacks"].values()
        # The panel keeps the CAMs of its first validation, before the first step.
        rows = next((state["rows"] for state in states if state.get("rows")), None)
        if rows is None:
            raise InputError(f"{file}: has no CAMs of before training: the run had no callbacks.panel")
        self.before: NDArray[np.float32] = rows[0]["cams"].float().numpy()

    def cams(self, batch: dict[str, Tensor], shown: Tensor) -> Cams:
        """What makes a view match the objects in it, after training."""
        cams = self.module.explain(batch["image"], batch["mask"]).cam[shown].float().numpy()
        return [(f"{self.name}\nafter {self.epochs}\nepochs", cams)]

    def features_cams(self, batch: dict[str, Tensor], shown: Tensor) -> Cams:
        """What the pooled features are made of; neither masks nor classes take part."""
        ask = questions(Network(self.name, self.module.method.encoder.backbone, None))["features"]
        return [(f"{self.name},\nfeatures", ask(batch)[shown].float().numpy())]

    def classifier_cams(self, batch: dict[str, Tensor], shown: Tensor) -> Cams:
        """What a linear classifier on the frozen features sees of an image's class; nothing without classes."""
        backbone, cpu = self.module.method.encoder.backbone, torch.device("cpu")
        classifier = train_classifier(backbone, cpu, self.data, CLASSIFIER_IMAGES)
        if classifier is None:
            return []
        ask = questions(Network(self.name, backbone, None), None, classifier)["classifier"]
        return [(f"{self.name},\nclassifier", ask(batch)[shown].float().numpy())]


ROWS = {"after": Run.cams, "features": Run.features_cams, "classifier": Run.classifier_cams}


def draw(runs: list[Run], wanted: list[str], height: int) -> NDArray[np.uint8]:
    """Rows of the same images: as they are, their masks, and the wanted CAMs of each run's network."""
    data = runs[0].data
    for run in runs:
        run.data.setup("validate")
    batch = next(iter(data.val_dataloader()))
    shown = has_object(batch["mask"]).nonzero()[: len(runs[0].before), 0]
    images = [enlarge(to_picture(batch["image"][i]), height) for i in shown]
    masks = [enlarge(batch["mask"][i, 0].numpy().astype(np.uint8), height, cv2.INTER_NEAREST) for i in shown]
    rows = [("image", images), ("mask", [overlay_mask(*pair) for pair in zip(images, masks, strict=True)])]
    found: Cams = []
    if "before" in wanted:
        for run in runs:  # those of one seed began with the same weights
            if not any(np.allclose(run.before, cams, atol=1e-4) for _, cams in found):
                found.append((f"{run.name}\nbefore", run.before))
        if len(found) == 1:
            found = [("before\ntraining", runs[0].before)]
    for name in wanted:
        if name in ROWS:
            found += [row for run in runs for row in ROWS[name](run, batch, shown)]
    rows += [(label, [overlay_cam(*pair) for pair in zip(images, cams, strict=True)]) for label, cams in found]
    caption = "validation images; each CAM is scaled by its own maximum, red is hottest, a grey image has no CAM"
    return grid(rows, "Where the encoders look", caption)


def main() -> None:
    """Read the runs and draw the gallery."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs, such as one without CAST and one with it")
    parser.add_argument("output", type=Path, help="picture to write, such as gallery.jpg")
    parser.add_argument("--rows", nargs="+", choices=("before", *ROWS), default=["before", "after", "classifier"])
    parser.add_argument("--height", type=int, default=112, help="pixels of one image")
    given = parser.parse_args()
    try:
        picture = draw([Run(folder) for folder in given.runs], given.rows, given.height)
    except InputError as error:
        sys.exit(f"error: {error}")
    write_atomic(given.output, encode(picture, given.output.suffix))
    print(f"Wrote {given.output}")


if __name__ == "__main__":
    main()
