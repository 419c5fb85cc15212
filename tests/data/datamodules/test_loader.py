"""The training loader: the same batches for any number of workers, and after resuming."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from castlit.data import ScenesDataModule, finish
from castlit.data.datamodules.datasets import collate

OPTIONS = {"train_count": 22, "val_count": 4, "size": 16, "scene_size": 24, "batch_size": 4}


def data(workers=0, **options):
    return ScenesDataModule(**{**OPTIONS, "workers": workers, **options})


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def alone():
    """Two epochs, loaded in the training process."""
    loader = data().train_dataloader()
    return [list(loader), list(loader)]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on few cores
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_batches_do_not_depend_on_workers(alone, workers):
    loader = data(workers).train_dataloader()
    for epoch in alone:
        batches = list(loader)
        assert len(batches) == len(epoch) == 5
        assert all(map(same, batches, epoch))


def test_epochs_differ(alone):
    first = {int(i): query for batch in alone[0] for i, query in zip(batch["index"], batch["query"], strict=True)}
    second = {int(i): query for batch in alone[1] for i, query in zip(batch["index"], batch["query"], strict=True)}
    both = first.keys() & second.keys()
    assert len(both) >= 18
    assert not any(torch.equal(first[i], second[i]) for i in both)


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_within_an_epoch(alone, workers):
    loader = data(workers).train_dataloader()
    list(loader)
    batches = iter(loader)
    for _ in range(2):
        next(batches)
    state = loader.state_dict()
    assert state == {"epoch": 1, "images": 8}
    resumed = data(workers).train_dataloader()
    resumed.load_state_dict(state)
    assert resumed.state_dict() == {"epoch": 1, "images": 8}  # a checkpoint may be written before the first batch
    rest = list(resumed)
    assert len(rest) == 3
    assert all(map(same, rest, alone[1][2:]))
    assert len(list(resumed)) == 5  # later epochs are complete


def test_position_of_another_epoch_is_ignored(alone):
    loader = data().train_dataloader()
    loader.load_state_dict({"epoch": 0, "images": 20})
    loader.sampler.set_epoch(1)  # as Lightning does when the epoch was complete
    assert all(map(same, list(loader), alone[1]))


class Recorder(pl.LightningModule):
    """Records its batches, and stops at a step, as if interrupted."""

    def __init__(self, stop_at=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.stop_at, self.seen = stop_at, []

    def training_step(self, batch, batch_idx):
        if self.stop_at is not None and self.global_step == self.stop_at:
            raise KeyboardInterrupt
        self.seen.append((self.current_epoch, batch_idx, {name: value.clone() for name, value in batch.items()}))
        return self.weight.sum() * batch["query"].mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(folder, module, workers, resume=None, **options):
    keep = ModelCheckpoint(folder, every_n_train_steps=1, save_top_k=-1, filename="{step}")
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=3,
        callbacks=[keep],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        **options,
    )
    trainer.fit(module, data(workers), ckpt_path=resume, weights_only=True)
    return module.seen


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*smaller than the logging interval")
@pytest.mark.filterwarnings("ignore:.*validation_step", "ignore:.*LeafSpec", "ignore:.*exists and is not empty")
@pytest.mark.filterwarnings("ignore:Detected KeyboardInterrupt", "ignore:.*GPU available")
@pytest.mark.parametrize(("stop_at", "workers"), [(1, 0), (4, 2), (5, 0), (7, 0), (9, 2), (13, 0)])
def test_resumed_run_gets_the_same_batches(tmp_path, stop_at, workers):
    uninterrupted = fit(tmp_path / "complete", Recorder(), workers=0)
    assert [step[:2] for step in uninterrupted] == [(epoch, batch) for epoch in range(3) for batch in range(5)]
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(tmp_path / "interrupted", Recorder(stop_at), workers)
    last = tmp_path / "interrupted" / f"step={stop_at}.ckpt"
    resumed = fit(tmp_path / "interrupted", Recorder(), workers, resume=last)
    assert [step[:2] for step in resumed] == [step[:2] for step in uninterrupted[stop_at:]]
    for (_, _, got), (_, _, expected) in zip(resumed, uninterrupted[stop_at:], strict=True):
        assert same(got, expected)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*smaller than the logging interval")
@pytest.mark.filterwarnings("ignore:.*validation_step", "ignore:.*LeafSpec", "ignore:.*GPU available")
@pytest.mark.filterwarnings("ignore:You requested to overfit", "ignore:.*exists and is not empty")
@pytest.mark.parametrize("workers", [0, 2])
def test_overfitting_repeats_the_same_batches(tmp_path, workers):
    """Lightning replaces the sampler by one that knows no epochs."""
    steps = fit(tmp_path, Recorder(), workers, overfit_batches=2)
    assert [step[:2] for step in steps] == [(epoch, batch) for epoch in range(3) for batch in range(2)]
    for epoch in (1, 2):
        for batch in (0, 1):
            assert same(steps[batch][2], steps[2 * epoch + batch][2])
    assert steps[0][2]["index"].tolist() == [0, 1, 2, 3]


class TestOnADevice:
    """Images are transferred as uint8, with colour draws; the device does the rest. Here it is the CPU."""

    def test_normalisation_on_the_device(self):
        module = data()
        dataset = module.train_dataloader().dataset
        samples = [dataset[0, i] for i in range(4)]
        raw = collate(samples, raw=True)
        assert raw["query"].dtype == torch.uint8
        finished = finish(raw, module.views.colours)
        expected = collate(samples)
        assert finished.keys() == expected.keys()
        assert all(torch.allclose(finished[name], expected[name], atol=1e-6) for name in finished)
        assert expected["query"].is_contiguous()
        assert finished["query"].is_contiguous(memory_format=torch.channels_last)

    @pytest.mark.parametrize("colours", ["moco_v1", "moco_v2"])
    def test_colours_on_the_device(self, colours):
        here, there = data(colours=colours), data(colours=colours, photometric="device")
        for expected, batch in zip(here.train_dataloader(), there.train_dataloader(), strict=True):
            assert batch["query"].dtype == torch.uint8
            finished = there.on_after_batch_transfer(batch)
            assert finished.keys() == expected.keys()
            for name in ("query_mask", "key_mask", "index"):
                assert torch.equal(finished[name], expected[name])
            for name in ("query", "key"):
                assert (finished[name] - expected[name]).abs().mean() < 0.02  # one level is 0.017

    @pytest.mark.parametrize("precision", ["64-true", "bf16-true", "32-true"])
    def test_images_have_the_precision_of_the_trainer(self, precision):
        """Lightning converts floats before bytes become floats."""
        module = data(photometric="device")
        module.trainer = pl.Trainer(
            accelerator="cpu", precision=precision, logger=False, enable_checkpointing=False, enable_model_summary=False
        )
        finished = module.on_after_batch_transfer(next(iter(module.train_dataloader())))
        dtype = {"64-true": torch.float64, "bf16-true": torch.bfloat16}.get(precision, torch.float32)
        assert finished["query"].dtype == finished["key"].dtype == dtype
        assert finished["query_mask"].dtype == torch.uint8

    def test_validation_has_no_colours(self):
        module = data(photometric="device")
        batch = next(iter(module.val_dataloader()))
        assert batch["image"].dtype == torch.float32
        assert same(module.on_after_batch_transfer(batch), batch)

    def test_callables_need_the_cpu(self):
        with pytest.raises(ValueError, match="photometric=device needs colours=moco_v1, moco_v2 or a ColourView"):
            data(photometric="device", colours=lambda image, rng: image)


def test_relaxed_crops_of_all_workers():
    # No box of so small a scale covers an object completely.
    module = data(2, min_coverage=1.0, scale=(0.01, 0.02))
    batches = list(module.train_dataloader())
    crops = 2 * sum(len(batch["index"]) for batch in batches)
    counted = module.relaxed_crops()
    assert set(counted) == {"scale", "ratio"}
    assert 0.9 * crops < sum(counted.values()) <= crops * 22 / 20
    free = data(2, min_coverage=0.0)
    list(free.train_dataloader())
    assert free.relaxed_crops() == {"scale": 0, "ratio": 0}


def test_ranks_partition_each_epoch():
    from castlit.data import EpochSampler

    module = data()
    dataset = module.train_dataloader().dataset
    seen = [
        np.array([index for _, index in EpochSampler(dataset, num_replicas=2, rank=rank, seed=module.seed)])
        for rank in range(2)
    ]
    assert sorted(np.concatenate(seen).tolist()) == list(range(22))
