"""Whose masks a protocol measures against: every report says so, and castlit's own are no ground truth."""

import json
import re

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from castlit.data import SaliencyDataModule, ScenesDataModule, ShardsDataModule
from castlit.data.io.masks_json import MASKS_FILE, PROGRAM
from castlit.evaluation import evaluate_saliency
from castlit.evaluation.mask_origin import NoGroundTruthError, mask_origin, protocol_masks, require_ground_truth
from castlit.make_shards import make_shards
from castlit.saliency.pipeline.quality import Quality
from castlit.saliency.pipeline.signature import Signature, sign

MADE = {"made_by": PROGRAM, "quality": "fused", "method": "fusion", "castlit": "0.2.0", "complete": True}


@pytest.fixture
def photographs(tmp_path):
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 12:30] = 255
    random = np.random.default_rng(0)
    for number in range(8):
        for kind, pixels in (("images", random.integers(0, 256, (40, 40, 3), dtype=np.uint8)), ("masks", mask)):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / kind / f"{number}.png")
    return tmp_path


def annotations(folder):
    polygon = [10, 10, 30, 10, 30, 30, 10, 30]
    numbers = range(8)
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 40, "width": 40} for i in numbers],
        "annotations": [{"id": i, "image_id": i, "segmentation": [polygon]} for i in numbers],
    }
    (folder / "objects.json").write_text(json.dumps(content))
    return folder / "objects.json"


def opened(folder, masks, **options):
    data = SaliencyDataModule(folder / "images", masks, size=32, batch_size=4, workers=0, **options)
    data.setup("validate")
    return data


def test_origins(photographs):
    masks = photographs / "masks"
    assert mask_origin(opened(photographs, masks)) == f"{masks}: as given, castlit did not make them"
    assert mask_origin(opened(photographs, None)) is None
    assert mask_origin(opened(photographs, annotations(photographs))).endswith("objects.json: the annotated objects")
    assert mask_origin(opened(photographs, "self")) == "the run's own saliency maps, no ground truth"
    scenes = ScenesDataModule(train_count=4, val_count=4, size=32, scene_size=36, workers=0)
    assert mask_origin(scenes) == "exact, of the built-in scenes"
    other = opened(photographs, masks, val_images=photographs / "images", val_masks=annotations(photographs))
    (masks / MASKS_FILE).write_text(json.dumps(MADE))
    made = opened(photographs, masks)
    assert mask_origin(made) == (
        f"{masks}: saliency maps, quality=fused (fusion), made by castlit 0.2.0; no ground truth"
    )
    assert mask_origin(other).endswith("objects.json: the annotated objects")  # of the validation images


def test_masks_that_backgrounds_are_made_with(photographs):
    masks = photographs / "masks"
    given = {"make_from": str(photographs), "root": None}
    assert protocol_masks(given) == f"{masks}: as given, castlit did not make them"
    (masks / MASKS_FILE).write_text(json.dumps(MADE))
    assert protocol_masks(given).startswith(f"{masks}: saliency maps, quality=fused (fusion)")
    assert protocol_masks({"make_from": None, "root": str(photographs)}) is None
    assert protocol_masks({"data": opened(photographs, masks)}).endswith("; no ground truth")


@pytest.mark.parametrize("place", ["masks", "."])  # make_masks writes one file for several folders
def test_own_masks_are_no_ground_truth(photographs, place):
    (photographs / place / MASKS_FILE).write_text(json.dumps(MADE))
    words = (
        r"masks are saliency maps that castlit made \(quality=fused .*\), no ground truth: give masks that were drawn"
    )
    with pytest.raises(NoGroundTruthError, match=words):
        evaluate_saliency(opened(photographs, photographs / "masks"), methods=("fast",), workers=0)
    (photographs / place / MASKS_FILE).write_text('{"made_by": "somebody else"}')
    assert evaluate_saliency(opened(photographs, photographs / "masks"), methods=("fast",), floors=False, workers=0)


def copied(folder):
    """Without the masks.json."""
    return folder / "masks"


def of_a_training(folder):
    """As data.masks=self writes them."""
    about = {"made_by": "castlit.train", "method": "self", "epoch": 20, "castlit": "0.2.0"}
    (folder / "masks" / MASKS_FILE).write_text(json.dumps(about))
    return folder / "masks"


def in_shards(folder):
    written = {"images": folder / "images", "masks": folder / "masks", "output": folder / "shards"}
    given = {"samples_per_shard": 8, "seed": 0, "shuffle": False, "on_bad": "error", "threshold": None, "cache": None}
    make_shards(OmegaConf.create({**{key: str(path) for key, path in written.items()}, **given, "mask_kind": "auto"}))
    return folder / "shards"


SIGNED = "quality=fast side=320 mask_side=1024 methods=2, made by castlit"


@pytest.mark.parametrize(
    ("place", "made"),
    [(copied, SIGNED), (of_a_training, "masks=self after 20 epochs, made by castlit 0.2.0"), (in_shards, SIGNED)],
)
def test_own_masks_elsewhere(photographs, place, made):
    quality = Quality(area=0.2, grey=0.1, overlap=0.3, border=0.0)
    for path in (photographs / "masks").iterdir():
        if place is not of_a_training:
            signature = Signature(SIGNED.partition(",")[0], quality)
            path.write_bytes(sign(path.read_bytes(), signature))
    masks = place(photographs)
    if place is in_shards:
        data = ShardsDataModule(masks, val_count=8, size=32, batch_size=4, workers=0)
        data.setup("validate")
    else:
        data = opened(photographs, masks)
    assert f": saliency maps, {made}; no ground truth" in mask_origin(data)
    with pytest.raises(NoGroundTruthError, match=rf" are saliency maps that castlit made \({re.escape(made)}\), no "):
        require_ground_truth(data.sources[:2])


@pytest.mark.slow
def test_reports_name_the_masks(run_program, photographs, tmp_path):
    (photographs / "masks" / MASKS_FILE).write_text(json.dumps(MADE))
    data = ["data=folder", f"data.images={photographs / 'images'}", f"data.masks={photographs / 'masks'}"]
    words = ["+protocol=all", "checkpoint=random", "backbone=tiny_resnet", *data, "data.size=32", "data.batch_size=4"]
    result = run_program("evaluate", *words, "protocol.skip=[scenes]", "hydra.run.dir=run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    line = "Masks: masks: saliency maps, quality=fused (fusion), made by castlit 0.2.0; no ground truth"
    assert line in result.stdout
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"<p>{line}. Took " in page
    assert "<p>saliency: data.masks=masks are saliency maps that castlit made" in page
    assert f"<p>{line}.</p>" in (tmp_path / "run" / "grounding" / "grounding.html").read_text()
    written = json.loads((tmp_path / "run" / "grounding" / "results.json").read_text())
    assert written["masks"] == line.removeprefix("Masks: ")
    assert "image 0" not in page
    assert ">0.png, mask " in (tmp_path / "run" / "grounding" / "grounding.html").read_text()
    alone = run_program("evaluate", "+protocol=saliency", *data, "hydra.run.dir=alone", cwd=tmp_path)
    assert alone.returncode == 1
    assert alone.stderr.startswith("error: data.masks=masks are saliency maps that castlit made")
