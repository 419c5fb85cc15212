"""quality=spectral from the command line: from a run's checkpoint, and its one-line errors."""

import json

import numpy as np
import pytest
from PIL import Image

from castlit import CASTModule
from castlit.data.scenes import Scenes
from castlit.methods import MoCo
from castlit.utils.lightning import pl


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(Scenes(3, size=64, seed=0).images):
        Image.fromarray(image).save(tmp_path / "photos" / f"{number}.png")
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    trainer.strategy.connect(CASTModule(MoCo("tiny_resnet", dim=8, queue_size=16)))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    return tmp_path


def test_masks_from_a_checkpoint(run_program, photos):
    words = ["images=photos", "output=masks", "quality=spectral", "spectral.size=64", "workers=0"]
    made = run_program("make_masks", *words, "checkpoint=last.ckpt", cwd=photos)
    assert made.returncode == 0, made.stderr
    notes = json.loads((photos / "masks" / "masks.json").read_text())
    assert (notes["quality"], notes["method"]) == ("spectral", "an encoder's features")
    assert notes["settings"]["spectral"]["method"] == "border_cut"
    assert notes["counts"] == {"images": 3, "made": 3, "skipped": 0, "failed": 0}
    assert all(np.asarray(Image.open(photos / "masks" / f"{i}.png")).shape == (64, 64) for i in range(3))
    for more, told in (
        ([], "error: quality=spectral finds objects in an encoder's features: give checkpoint=, a run's"),
        (["checkpoint=last.ckpt", "spectral.layer=layr3"], "error: spectral.layer=layr3: the network has no layer"),
    ):
        refused = run_program("make_masks", *words, *more, "overwrite=true", cwd=photos)
        assert refused.returncode == 1
        (line,) = refused.stderr.strip().splitlines()
        assert line.startswith(told)
