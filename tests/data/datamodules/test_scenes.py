import pickle

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from castlit.data import MEAN, STD, ScenesDataModule, collate
from castlit.data.datamodules.base import default_workers
from castlit.utils.validation import InputError


def scenes(**options):
    return ScenesDataModule(
        **{"train_count": 40, "val_count": 12, "batch_size": 16, "workers": 0, "size": 32, **options}
    )


def epoch(module):
    return list(module.train_dataloader())


def same(first, second):
    return all(torch.equal(a[key], b[key]) for a, b in zip(first, second, strict=True) for key in a)


@pytest.fixture(scope="module")
def module():
    return scenes()


def test_training_batches(module):
    batches = epoch(module)
    assert len(batches) == 2  # the last 8 of 40 scenes do not fill a batch
    for batch in batches:
        assert set(batch) == {"query", "key", "query_mask", "key_mask", "index"}
        for name in ("query", "key"):
            assert batch[name].dtype == torch.float32
            assert batch[name].shape == (16, 3, 32, 32)
            assert batch[name].is_contiguous()
        for name in ("query_mask", "key_mask"):
            assert batch[name].dtype == torch.uint8
            assert batch[name].shape == (16, 1, 32, 32)
            assert batch[name].max() == 1
        assert batch["index"].dtype == torch.int64
        assert batch["index"].shape == (16,)


def test_validation_batches(module):
    batches = list(module.val_dataloader())
    assert [len(batch["index"]) for batch in batches] == [12]
    batch = batches[0]
    assert set(batch) == {"image", "mask", "index", "label"}
    assert batch["image"].shape == (12, 3, 32, 32)
    assert batch["mask"].shape == (12, 1, 32, 32)
    assert batch["mask"].dtype == torch.uint8
    assert batch["label"].dtype == batch["index"].dtype == torch.int64
    assert torch.equal(batch["index"], torch.arange(12))
    assert batch["mask"].flatten(1).any(1).all()  # the full scene is shown, so every object is visible
    assert same(batches, list(module.val_dataloader()))


def test_normalisation():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    batch = collate([{"image": image, "index": 3}])
    expected = (image / 255 - np.array(MEAN)) / np.array(STD)
    assert np.allclose(batch["image"][0].permute(1, 2, 0), expected, atol=1e-5)
    assert batch["index"].tolist() == [3]


def test_batches_do_not_depend_on_workers():
    runs = []
    for workers in (0, 1, 2):
        loader = scenes(workers=workers).train_dataloader()
        runs.append([batch for _ in range(2) for batch in loader])
    assert same(runs[0], runs[1])
    assert same(runs[0], runs[2])


def test_epochs_differ():
    for workers in (0, 2):
        loader = scenes(workers=workers, batch_size=40).train_dataloader()
        first, second = list(loader), list(loader)
        assert not torch.equal(first[0]["index"], second[0]["index"])
        a = first[0]["query"][first[0]["index"].argsort()]
        b = second[0]["query"][second[0]["index"].argsort()]
        assert not any(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_seed(module):
    assert same(epoch(scenes()), epoch(scenes()))
    assert not same(epoch(scenes()), epoch(scenes(seed=1)))
    assert same(list(scenes(seed=1).val_dataloader()), list(module.val_dataloader()))
    assert not same(list(scenes(scene_seed=1).val_dataloader()), list(module.val_dataloader()))


def test_global_random_state_is_unchanged(module):
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002 - the legacy state must not change
    expected = torch.rand(1)
    torch.manual_seed(3)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    epoch(module)
    assert torch.equal(torch.rand(1), expected)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_dataset_smaller_than_a_batch():
    assert [len(batch["index"]) for batch in epoch(scenes(train_count=10))] == [10]


def test_view_options():
    module = scenes(min_coverage=None, region="common", constraint="pair", colours="moco_v1", flip=0.0)
    assert (module.views.min_coverage, module.views.region, module.views.boxes.pair) == (0, "common", True)
    batches = epoch(scenes(min_coverage=1.0))
    assert all(batch["query_mask"].flatten(1).any(1).all() for batch in batches)


def test_pickle(module):
    dataset = module.train_dataloader().dataset
    a, b = dataset[2, 5], pickle.loads(pickle.dumps(dataset))[2, 5]
    assert all(np.array_equal(a[key], b[key]) for key in a)
    assert not np.array_equal(a["query"], dataset[5]["query"])


def test_collate_missing_samples(module):
    dataset = module.train_dataloader().dataset
    assert collate([None, dataset[0, 3], None])["index"].tolist() == [3]
    with pytest.raises(InputError, match="none of the 2 images"):
        collate([None, None])
    assert collate([None, dataset[0, 3]], whole=True)["index"].tolist() == [3, 3]


@pytest.mark.parametrize(
    "change",
    [
        {"train_count": 0},
        {"val_count": -1},
        {"size": 0},
        {"scene_size": 4},
        {"background_correlation": 1.5},
        {"batch_size": 0},
        {"seed": -1},
        {"scene_seed": "x"},
        {"workers": -1},
    ],
)
def test_bad_arguments(change):
    with pytest.raises(InputError, match=next(iter(change))):
        scenes(**change)


def test_unknown_options():
    with pytest.raises(TypeError, match="min_cover"):
        scenes(min_cover=0.2)


class Recorder(pl.LightningModule):
    """Records its batches."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen, self.validated = [], []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch))
        return self.layer(batch["query"].mean().view(1, 1)).sum()

    def validation_step(self, batch, batch_idx):
        self.validated += batch["label"].tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning")  # Lightning 2.6.6 on a newer torch
def test_lightning_gets_the_same_batches(tmp_path):
    recorder = Recorder()
    trainer = pl.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_epochs=2,
        num_sanity_val_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(recorder, datamodule=scenes(workers=2))
    loader = scenes().train_dataloader()
    plain = [(epoch, batch) for epoch in range(2) for batch in loader]
    assert [epoch for epoch, _ in recorder.seen] == [epoch for epoch, _ in plain] == [0, 0, 1, 1]
    assert same([batch for _, batch in recorder.seen], [batch for _, batch in plain])
    assert len(recorder.validated) == 3 * 12


def test_default_workers(monkeypatch):
    for cores, processes, expected in ((1, 1, 0), (2, 1, 2), (64, 1, 2), (2, 2, 1), (8, 8, 1), (4, 8, 0)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert default_workers(2) == expected


def test_default_workers_of_several_processes(monkeypatch):
    monkeypatch.setattr("castlit.data.datamodules.base.os.sched_getaffinity", lambda _: set(range(16)))
    assert default_workers(8) == 8
    assert default_workers(8, processes=4) == 4
    assert default_workers(2, processes=4) == 2
