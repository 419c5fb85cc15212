"""masks=self in a real Trainer: when and how masks are made, that nothing else changes, and exact resume."""

import json
import shutil
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.callbacks import RichProgressBar, TQDMProgressBar
from pytorch_lightning.demos.boring_classes import BoringModel

from castlit import CASTModule
from castlit.attention import AttentionLoss
from castlit.callbacks import ExactResume, GradCAMPanel, LastCheckpoint, MetricsCSV, SelfMasks
from castlit.callbacks.mask_maker import split_batches, temporary_eval
from castlit.callbacks.self_masks import METHODS
from castlit.callbacks.work_progress import progress_of
from castlit.data import SaliencyDataModule
from castlit.data.datamodules.datasets import normalise
from castlit.data.datamodules.full_images import FullImages
from castlit.data.scenes import Scenes
from castlit.methods import MoCo
from castlit.optim import OptimizerRecipe
from castlit.saliency.algorithms.refine import sharpen
from castlit.saliency.spectral.discovery import discover
from castlit.saliency.spectral.settings import DISCOVERY, SpectralSettings
from castlit.utils.validation import InputError
from support.cuts import KeepDisk, PowerCut

COUNT, EPOCHS, WARMUP, EVERY = 14, 6, 2, 2


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for name, count, seed in (("images", COUNT, 0), ("val", 5, 1)):
        (folder / name).mkdir()
        for number, image in enumerate(Scenes(count, size=40, seed=seed).images):
            Image.fromarray(image[: 30 + number]).save(folder / name / f"{number:02d}.png")
    return folder


class Noted(pl.Callback):
    """Records the masks in use, and the final state of a run."""

    def __init__(self, method):
        self.method = method
        self.found, self.versions, self.empty = {}, [], []

    def on_train_epoch_start(self, trainer, pl_module):
        """After SelfMasks: the masks it should have made, by hand."""
        source = trainer.datamodule.sources[0]
        epoch = trainer.current_epoch
        if source.mask_store is None or source.mask_store.version != epoch:
            return
        whole = FullImages(source, 32)
        maps = {}
        with temporary_eval(pl_module):
            for block in split_batches(np.arange(COUNT), 5):
                pixels = np.stack([whole[i]["image"] for i in block.tolist()])
                images = normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))
                if self.method == "contracam":
                    found = pl_module.find_objects(images).numpy()
                else:
                    with torch.no_grad():
                        # 48 px of the mirrored image on each side, six cells of layer4, are cut off again.
                        padded = np.pad(np.arange(32), 48, mode="reflect")
                        features = pl_module.encoder.backbone(images[:, :, padded][..., padded])[:, :, 6:-6, 6:-6]
                    settings = SpectralSettings(self.method)
                    cuts = [
                        discover(each.numpy(), image, settings) for each, image in zip(features, pixels, strict=True)
                    ]
                    found = np.stack([sharpen(cv2.resize(cut, (32, 32)).clip(0, 1)) for cut in cuts])
                maps.update(zip(block.tolist(), (found * 255).round().astype(np.uint8), strict=True))
        self.found[epoch] = [maps[i] for i in range(COUNT)]

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.empty.append((trainer.current_epoch, outputs["empty_masks"].item()))

    def on_train_epoch_end(self, trainer, pl_module):
        source = trainer.datamodule.sources[0]
        self.versions.append(None if source.mask_store is None else source.mask_store.version)

    def on_fit_end(self, trainer, pl_module):
        self.weights = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}
        self.draws = torch.rand(3).tolist(), np.random.rand(3).tolist()  # noqa: NPY002


def run(
    folder,
    photographs,
    extra=(),
    resume=None,
    workers=0,
    masks="self",
    precision="32-true",
    data=None,
    backbone="tiny_resnet",
    ranks=1,
    **options,
):
    pl.seed_everything(3, verbose=False)
    data = SaliencyDataModule(
        photographs / "images",
        masks,
        **(data or {}),
        size=24,
        batch_size=4,
        workers=workers,
        scale=(0.4, 1.0),
    )
    method = MoCo(backbone, dim=4, queue_size=17, momentum=0.9)
    recompute = options.pop("activation_checkpointing", False)
    module = CASTModule(method, AttentionLoss(), OptimizerRecipe(lr=0.1), activation_checkpointing=recompute)
    settings = {"warmup_epochs": WARMUP, "every_n_epochs": EVERY, "batch_size": 5, "refine": "none", "size": 32}
    settings |= options
    logger, noted = MetricsCSV(folder, name="", version=""), Noted(options.get("method", "border_cut"))
    if resume is not None:
        logger.keep(torch.load(resume, weights_only=True)["castlit"]["rows"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            accelerator="cpu",
            precision=precision,
            devices=ranks,
            strategy="ddp" if ranks > 1 else "auto",
            max_epochs=EPOCHS,
            check_val_every_n_epoch=2,
            logger=logger,
            callbacks=[
                SelfMasks(folder / "self_masks", **settings),
                *extra,
                noted,
                GradCAMPanel(folder / "gradcam.png", count=3, pixels=32),
                ExactResume(),
                LastCheckpoint(folder / "checkpoints", every_n_train_steps=1),
            ],
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            default_root_dir=folder,
        )
        trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    return noted


PLACES = [
    ("on_train_epoch_start", 3),  # the masks exist, and no checkpoint refers to them
    ("on_train_batch_end", 8),  # in the first epoch with masks
    ("on_train_batch_end", 12),
    ("on_validation_batch_end", 3),
    ("on_train_epoch_end", 4),
]


@pytest.fixture(scope="module")
def kept(photographs, tmp_path_factory):
    """An uninterrupted run, its folder, and copies of what the folder was at each place."""
    top = tmp_path_factory.mktemp("whole")
    folder, copies = top / "run", {place: top / "{}{}".format(*place) for place in PLACES}
    extra = [KeepDisk(folder, copy, *place) for place, copy in copies.items()]
    return run(folder, photographs, extra=extra), folder, copies


@pytest.fixture(scope="module")
def whole(kept):
    """An uninterrupted run, and its folder."""
    return kept[:2]


@pytest.fixture
def interrupted(kept, tmp_path):
    """Gives the folder of a run that was interrupted at one of the places."""

    def copy(*place):
        return shutil.copytree(kept[2][place], tmp_path / "interrupted")

    return copy


def pngs(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def assert_same(found, folder, wanted, other):
    for name, tensor in wanted.weights.items():
        assert torch.equal(found.weights[name], tensor), name
    assert found.draws == wanted.draws
    for name in ("metrics.csv", "gradcam.png"):
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    assert pngs(folder / "self_masks") == pngs(other / "self_masks")
    assert {path.name for path in (folder / "self_masks").iterdir()} == {"epoch_2", "epoch_4"}


def test_masks_after_warmup_and_again(whole):
    noted, folder = whole
    assert noted.versions == [None, None, 2, 2, 4, 4]
    shares = {epoch: [share for e, share in noted.empty if e == epoch] for epoch in range(EPOCHS)}
    assert all(share == 1 for epoch in (0, 1) for share in shares[epoch]), "no masks yet"
    assert all(share < 1 for epoch in range(2, EPOCHS) for share in shares[epoch])
    assert {path.name for path in (folder / "self_masks").iterdir()} == {"epoch_2", "epoch_4"}
    assert (folder / "gradcam.png").is_file()


def test_masks_equal_encoder_maps(whole):
    assert_masks_by_hand(*whole)


@pytest.mark.parametrize("method", ["contracam", "lost"])
def test_masks_of_other_methods(photographs, tmp_path, method):
    assert_masks_by_hand(run(tmp_path, photographs, method=method), tmp_path)


def assert_masks_by_hand(noted, folder):
    assert set(noted.found) == {2, 4}
    for epoch, maps in noted.found.items():
        written = folder / "self_masks" / f"epoch_{epoch}" / "train"
        about = json.loads((written / "masks.json").read_text())
        assert about["settings"]["method"] == noted.method
        counts, empty = about["counts"], 0
        for number, expected in enumerate(maps):
            found = cv2.imread(str(written / f"{number:02d}.png"), cv2.IMREAD_UNCHANGED)
            share = (expected > 128).mean()
            if share == 0 or share > 0.95:
                assert not found.any()
                empty += 1
            else:
                np.testing.assert_array_equal(found, expected)
        assert counts["images"] == COUNT
        assert counts["empty"] + counts["everything"] == empty
    assert not np.array_equal(noted.found[2], noted.found[4]), "the encoder has trained in between"


def test_rest_of_run_is_equal(photographs, tmp_path):
    """If all masks are empty, the run equals one without masks."""
    masked = run(tmp_path / "masked", photographs, most=1e-9)
    plain = run(tmp_path / "plain", photographs, masks=None)
    assert masked.versions[-1] == 4
    assert not any(
        cv2.imread(str(path), 0).any() for path in (tmp_path / "masked" / "self_masks" / "epoch_4").rglob("*.png")
    )
    for name, tensor in plain.weights.items():
        assert torch.equal(masked.weights[name], tensor), name
    assert masked.draws == plain.draws
    metrics = [(tmp_path / name / "metrics.csv").read_text() for name in ("masked", "plain")]
    assert metrics[0] == metrics[1]
    assert not (tmp_path / "plain" / "self_masks").exists()
    states = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True) for name in ("masked", "plain")
    ]
    assert [any("SelfMasks" in key for key in state["callbacks"]) for state in states] == [True, False]


def test_workers_use_new_masks(whole, photographs, tmp_path):
    assert_same(run(tmp_path, photographs, workers=2), tmp_path, *whole)


@pytest.mark.parametrize("place", PLACES, ids=[f"{hook}-{count}" for hook, count in PLACES])
def test_resume_after_any_epoch(whole, interrupted, photographs, place):
    folder = interrupted(*place)
    found = run(folder, photographs, resume=folder / "checkpoints" / "last.ckpt")
    assert_same(found, folder, *whole)


def test_interrupted_mask_making(whole, photographs, tmp_path, monkeypatch):
    written = []

    def write(self, source, folder, index, *rest, _write=SelfMasks.__init__.__globals__["MaskMaker"]._write):
        written.append(index)
        if len(written) == 20:  # of the second version
            raise PowerCut
        return _write(self, source, folder, index, *rest)

    monkeypatch.setattr("castlit.callbacks.mask_maker.MaskMaker._write", write)
    with pytest.raises(PowerCut):
        run(tmp_path, photographs)
    assert {path.name for path in (tmp_path / "self_masks").iterdir()} == {"epoch_2", "epoch_4.part"}
    found = run(tmp_path, photographs, resume=tmp_path / "checkpoints" / "last.ckpt")
    assert_same(found, tmp_path, *whole)


def test_masks_of_other_run(whole, interrupted, photographs, tmp_path):
    old = interrupted("on_train_batch_end", 12)
    stale = tmp_path / "new" / "self_masks" / "epoch_2" / "train"
    stale.mkdir(parents=True)
    found = run(tmp_path / "new", photographs, resume=old / "checkpoints" / "last.ckpt")
    wanted, folder = whole
    assert all(torch.equal(found.weights[name], tensor) for name, tensor in wanted.weights.items())
    assert pngs(tmp_path / "new" / "self_masks") == pngs(folder / "self_masks")


def test_missing_masks_are_remade(interrupted, photographs, caplog):
    folder = interrupted("on_train_batch_end", 12)
    shutil.rmtree(folder / "self_masks")
    found = run(folder, photographs, resume=folder / "checkpoints" / "last.ckpt")
    assert "epoch_2: this run's masks are gone; making new ones" in caplog.text
    assert found.versions == [2, 4, 4]
    assert len(pngs(folder / "self_masks" / "epoch_2")) == COUNT


def test_two_ranks_make_same_masks(kept, photographs, tmp_path, run_two_ranks):
    shutil.copytree(kept[2][("on_train_epoch_start", 3)], tmp_path / "one")
    shutil.copytree(photographs, tmp_path / "photographs")
    first, second = run_two_ranks(Path(__file__).with_name("two_ranks_self_masks.py"), tmp_path)
    one, two = (pngs(tmp_path / name / "self_masks" / "epoch_2") for name in ("one", "kept"))
    assert len(two) == COUNT
    assert two == one, "from the same weights"
    about = json.loads((tmp_path / "kept" / "self_masks" / "epoch_2" / "train" / "masks.json").read_text())
    assert about["counts"]["images"] == COUNT
    for name, tensor in first["weights"].items():
        assert torch.equal(second["weights"][name], tensor), name
    assert first["versions"] == second["versions"] == [2, 2, 4, 4]
    assert not torch.equal(first["own"], second["own"]), "each rank's batch norm has its own statistics again"


def test_masks_of_validation_images(photographs, tmp_path):
    data = {"val_images": photographs / "val", "val_count": 3}
    run(tmp_path, photographs, data=data, iterations=2, refine="guided", size=32)
    made = tmp_path / "self_masks" / "epoch_4"
    assert len(list((made / "train").glob("*.png"))) == COUNT
    assert len(list((made / "val").glob("*.png"))) == 3
    about = json.loads((made / "val" / "masks.json").read_text())
    assert about["counts"]["images"] == 3
    settings = {"size": 32, "batch_size": 5, "iterations": 2, "refine": "guided", "most": 0.95}
    assert about["settings"] == {"method": "border_cut", **settings}
    assert (tmp_path / "gradcam.png").is_file()
    assert "val/pointing" not in (tmp_path / "metrics.csv").read_text(), "another callback logs it"


@pytest.mark.parametrize("options", [{"precision": "bf16-mixed"}, {"activation_checkpointing": True, "refine": "crf"}])
def test_equals_cast_module_step(photographs, tmp_path, options):
    noted = run(tmp_path, photographs, **options)
    assert noted.versions[-1] == 4
    assert any(image.any() for image in (cv2.imread(str(path), 0) for path in (tmp_path / "self_masks").rglob("*.png")))


def test_temporary_eval_after_error():
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Dropout())
    module[0].eval()
    state = torch.get_rng_state()
    seen = []

    def fail():
        with temporary_eval(module):
            seen.extend([part.training for part in module.modules()])
            torch.rand(3)
            raise PowerCut

    with pytest.raises(PowerCut):
        fail()
    assert seen == [False, False, False]
    assert [part.training for part in module.modules()] == [True, False, True]
    assert torch.equal(torch.get_rng_state(), state)


def test_split_batches():
    for count in (1, 2, 5, 6, 64, 65, 129):
        batches = split_batches(np.arange(count) + 7, 64)
        assert sorted(np.concatenate(batches)) == list(range(7, count + 7))
        assert max(map(len, batches)) <= 64
        assert max(map(len, batches)) - min(map(len, batches)) <= 1
    assert split_batches(np.arange(0), 64) == []


@pytest.mark.parametrize("bar", [None, RichProgressBar, TQDMProgressBar])
def test_progress_uses_trainer_bar(bar, capsys):
    callbacks = [bar()] if bar else []
    trainer = pl.Trainer(accelerator="cpu", logger=False, callbacks=callbacks, enable_progress_bar=bar is not None)
    if bar is RichProgressBar:
        trainer.progress_bar_callback._init_progress(trainer)
        theirs = trainer.progress_bar_callback.progress
    with progress_of(trainer, "Masks of epoch 2", 5) as done:
        done(2)
        if bar is RichProgressBar:
            assert [(task.description, task.completed, task.total) for task in theirs.tasks] == [
                ("Masks of epoch 2", 2, 5)
            ]
    if bar is RichProgressBar:
        assert theirs.tasks == []
        theirs.stop()


def test_invalid_settings(photographs, tmp_path):
    assert (*DISCOVERY, "contracam") == METHODS
    for options in ({"warmup_epochs": 0}, {"every_n_epochs": 0}, {"batch_size": 1}, {"iterations": 0}, {"most": 0}):
        (name,) = options
        with pytest.raises(InputError, match=f"callbacks.self_masks.{name} must be"):
            SelfMasks(**options)
    with pytest.raises(InputError, match=r"self_masks\.method must be one of border_cut, .*mean 'contracam'"):
        SelfMasks(method="contra_cam")
    with pytest.raises(InputError, match="refine must be one of crf, guided, none"):
        SelfMasks(refine="guide")
    with pytest.raises(InputError, match=r"would come after 6 epochs, and the run has 6: .*warmup_epochs"):
        run(tmp_path, photographs, warmup_epochs=EPOCHS)
    with pytest.raises(InputError, match=r"callbacks\.self_masks\.size=40: the encoder does not accept it \(.*16.*\)"):
        run(tmp_path, photographs, size=40, backbone="timm/test_vit")
    with pytest.raises(InputError, match=r"callbacks\.self_masks\.size=40: the encoder does not accept it \(.*16.*\)"):
        run(tmp_path, photographs, size=40, backbone="timm/test_vit", method="contracam")
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=30, logger=False, callbacks=[SelfMasks(tmp_path)], default_root_dir=tmp_path
    )
    with pytest.raises(InputError, match="masks=self needs a CASTModule: BoringModel has no find_objects"):
        trainer.fit(BoringModel(), SaliencyDataModule(photographs / "images", "self", size=24, workers=0))
