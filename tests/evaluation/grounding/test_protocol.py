"""Grounding of any network: the CAMs, the classifier, and the images."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import castlit
from castlit.data import ArraySource, SaliencyDataModule, ScenesDataModule
from castlit.data.io.errors import SampleError
from castlit.evaluation import evaluate_grounding, linear_probe
from castlit.evaluation.grounding.classifier import _as_layer, train_classifier
from castlit.evaluation.grounding.examples import ImageResults
from castlit.evaluation.grounding.questions import partners, questions
from castlit.evaluation.grounding.scores import ImageScores, grounding, image_scores
from castlit.evaluation.network import Network
from castlit.interop import open_backbone
from castlit.utils.validation import InputError

CPU = torch.device("cpu")
IMAGES = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def network():
    """A backbone with batch statistics of data: with the initial ones, an untrained network's features are tiny."""
    backbone = open_backbone("random", "tiny_resnet")
    backbone.train()(torch.randn(64, 3, 64, 64))
    return Network("random", backbone.eval(), None)


@pytest.fixture
def scenes():
    return ScenesDataModule(train_count=200, val_count=48, batch_size=20, workers=0)


def test_image_scores_average():
    cams, masks = torch.rand(6, 5, 5), torch.zeros(6, 1, 20, 20, dtype=torch.uint8)
    masks[:, :, 3:11, 5:15] = 1
    scores = image_scores(cams, masks)
    assert scores.chance.tolist() == pytest.approx([0.2] * 6)
    for i in range(6):
        assert torch.stack([part[i] for part in scores]).tolist() == pytest.approx(
            grounding(cams[i : i + 1], masks[i : i + 1])[:4]
        )
    assert scores.mean() == pytest.approx(grounding(cams, masks))


def test_features_cam(network):
    found = questions(network)["features"]({"image": IMAGES})
    maps = network.backbone(IMAGES).detach().double().numpy()
    mean = maps.mean((2, 3))
    direction = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    expected = np.einsum("nc,nchw->nhw", direction, maps) / (maps.shape[2] * maps.shape[3])
    np.testing.assert_allclose(found.numpy(), np.maximum(expected, 0), rtol=1e-4, atol=1e-7)
    assert found.max() > 0
    assert "pretext" not in questions(network)


def test_classifier_cam(network):
    classifier, labels = nn.Linear(128, 3), torch.tensor([2, 0, 1, 1])
    found = questions(network, classifier=classifier)["classifier"]({"image": IMAGES, "label": labels})
    maps = network.backbone(IMAGES).detach()
    expected = torch.einsum("nc,nchw->nhw", classifier.weight[labels], maps).relu() / maps[0, 0].numel()
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-7)
    unseen = questions(network, classifier=classifier)["classifier"]({"image": IMAGES, "label": labels + 1})
    assert not unseen[0].any()  # its class is not among the three
    assert unseen[1:].any()


def test_other_layer(network):
    assert questions(network, "layer1")["features"]({"image": IMAGES}).shape == (4, 16, 16)
    with pytest.raises(InputError, match="no layer 'layer9'"):
        questions(network, "layer9")["features"]({"image": IMAGES})


@pytest.mark.parametrize("labels", [[0, 1, 2, 4], [1, 3]])
def test_classifier_layer_equals_probe(labels):
    rng = np.random.default_rng(0)
    known = rng.choice(labels, 80)
    features = (rng.normal(size=(80, 6)) * 5 + known[:, None] * rng.normal(size=6) * 3 + 7).astype(np.float32)
    probe = linear_probe(features, known)
    layer = _as_layer(probe, max(labels) + 1)
    probabilities = layer(torch.from_numpy(features)).softmax(1).detach().numpy()
    np.testing.assert_allclose(probabilities[:, labels], probe.predict_proba(features), atol=1e-5)
    assert set(probabilities.argmax(1)) <= set(labels)


def test_no_classifier_without_labels(network, tmp_path):
    (tmp_path / "i").mkdir()
    for i in range(3):
        cv2.imwrite(str(tmp_path / "i" / f"{i}.png"), np.random.default_rng(i).integers(0, 255, (40, 40, 3), np.uint8))
    data = castlit.data.SaliencyDataModule(tmp_path / "i", None, size=32, batch_size=2, workers=0)
    data.setup("validate")
    assert train_classifier(network.backbone, CPU, data, 10) is None
    with pytest.raises(InputError, match="at least one image with a mask"):
        evaluate_grounding(network.backbone, CPU, tmp_path, "x", data)


class FirstDamaged(ArraySource):
    def read(self, index):
        if index == 0:
            raise SampleError("damaged")
        return super().read(index)

    def give_up(self, index, error):
        """It is left out."""


def test_classifier_with_a_damaged_first_image(network):
    images = np.random.default_rng(0).integers(0, 255, (12, 40, 40, 3), np.uint8)
    source = FirstDamaged(images, None, np.arange(12) % 2)
    data = SimpleNamespace(sources=(source, None, None), size=32, val_resize=None, batch_size=4)
    assert train_classifier(network.backbone, CPU, data, 12).out_features == 2


def seen(count, gains=None):
    own = torch.zeros(count) if gains is None else torch.tensor(gains)
    scores = {
        "features": ImageScores(own, own, own, own),
        "features!": ImageScores(own * 0, own * 0, own * 0, own * 0),
    }
    return ImageResults(
        {key: torch.zeros(count, 2, 2) for key in scores},
        scores,
        torch.arange(count) * 2,
        torch.ones(count, dtype=torch.bool),
    )


def test_choice_of_images():
    assert list(seen(100).choose(5, None).values()) == [[0, 25, 50, 74, 99]]
    assert list(seen(3).choose(24, None).values()) == [[0, 1, 2]]
    even, most, least = seen(6, [0.0, 0.5, -0.3, 0.9, -0.8, 0.1]).choose(8, "!").values()
    assert even == [0, 2, 3, 5]
    assert (most, least) == ([3, 1], [4, 2])


def test_partners_are_half_way_around():
    mask = torch.ones(7, 1, 2, 2)
    mask[3] = 0
    assert partners(mask).tolist() == [4, 5, 6, 3, 0, 1, 2]
    assert partners(mask[2:4]).tolist() == [0, 1], "no other image with an object"


class ByMean(nn.Module):
    """A feature map that is the image's grey values, 4 × 4."""

    def __init__(self):
        super().__init__()
        self.layer4 = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.layer4.weight)

    def forward(self, images):
        return self.layer4(F.adaptive_avg_pool2d(images.mean(1, keepdim=True), 4))


def test_shuffled_rows(tmp_path):
    """A CAM of the image's own object fits no other image's mask; a CAM of the key's object fits the key's."""
    images, masks = torch.zeros(8, 3, 32, 32), torch.zeros(8, 1, 32, 32, dtype=torch.uint8)
    for i in range(8):
        row = 8 * (i % 4)
        images[i, :, row : row + 8] = 1
        masks[i, :, row : row + 8] = 1

    def by_key(images, masks, key_images=None, key_masks=None):
        return images.mean((2, 3)), F.adaptive_avg_pool2d((masks if key_masks is None else key_masks).float(), 4)[:, 0]

    rows = [{"image": image, "mask": mask} for image, mask in zip(images[:6], masks[:6], strict=True)]
    data = pl.LightningDataModule()
    data.val_dataloader = lambda: DataLoader(rows, batch_size=6)
    found = evaluate_grounding(ByMean(), CPU, tmp_path, "grey", data, by_key, pictures=0, shuffled=True)
    assert list(found) == [
        "pretext", "pretext_shuffled_keys", "features",
        "pretext_shuffled_masks", "features_shuffled_masks", "a Gaussian in the centre",
    ]  # fmt: skip
    assert found["pretext"]["pointing"] == found["features"]["pointing"] == 1
    for name in ("pretext_shuffled_keys", "pretext_shuffled_masks", "features_shuffled_masks"):
        # Of each image and the one three places on, no two show the object in the same row.
        assert found[name]["pointing"] == 0, name
        assert found[name]["images"] == 6
    # An image that is alone in its batch has no partner.
    data.val_dataloader = lambda: DataLoader(rows[:5], batch_size=4)
    found = evaluate_grounding(ByMean(), CPU, tmp_path, "grey", data, by_key, pictures=2, shuffled=True)
    assert found["pretext"]["images"] == 5
    assert {found[name]["images"] for name in found if "shuffled" in name} == {4}
    data.val_dataloader = lambda: DataLoader(rows, batch_size=1)
    found = evaluate_grounding(ByMean(), CPU, tmp_path, "grey", data, by_key, pictures=0, shuffled=True)
    assert list(found) == ["pretext", "features", "a Gaussian in the centre"]
    assert not (tmp_path / "grounding.html").exists(), "that of the evaluation before"


def test_accuracy_is_on_images_that_the_classifier_has_not_seen(network, tmp_path):
    """Images of two classes that look alike: it overfits to what it was fitted on."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        for label in "ab":
            (tmp_path / kind / label).mkdir(parents=True)
    for i in range(60):
        noise = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
        mask = np.zeros((64, 64), np.uint8)
        mask[16:48, 16:48] = 255
        for kind, pixels in (("images", noise), ("masks", mask)):
            cv2.imwrite(str(tmp_path / kind / "ab"[i % 2] / f"{i}.png"), pixels)
    data = SaliencyDataModule(
        tmp_path / "images", tmp_path / "masks", labels="folders", size=64, batch_size=16, val_count=20, workers=0
    )
    found = evaluate_grounding(network.backbone, CPU, tmp_path, "random", data, pictures=0)
    assert found["classifier"]["accuracy"] < 0.9
    every = SaliencyDataModule(tmp_path / "images", tmp_path / "masks", labels="folders", size=64, workers=0)
    assert "classifier" not in evaluate_grounding(network.backbone, CPU, tmp_path, "random", every, pictures=0)


def test_metrics_and_images(network, scenes, tmp_path):
    module = castlit.CASTModule(castlit.methods.MoCo("tiny_resnet", queue_size=8, dim=4)).eval()
    other = Network("<b>x</b>.ckpt", module.method.encoder.backbone, module.explain)
    own = [network.backbone, CPU, tmp_path, "random", scenes]
    results = evaluate_grounding(*own, compare=other, pictures=8, classifier_images=100)
    assert list(results) == [
        "pretext (compare)",
        "features",
        "features (compare)",
        "classifier",
        "classifier (compare)",
        "a Gaussian in the centre",
    ]
    for row in results.values():
        assert row["images"] == 48
        assert 0 <= min(row["pointing"], row["energy"], row["iou"]) <= max(row["energy"], row["iou"]) < 1
    assert {key for key, row in results.items() if "accuracy" in row} == {"classifier", "classifier (compare)"}
    assert {key for key, row in results.items() if "more_energy" in row} == {"features", "classifier"}
    strips = sorted((tmp_path / "grounding").iterdir())
    assert 6 <= len(strips) <= 8
    picture = cv2.imread(str(strips[0]))
    assert picture.shape[1] > 7 * 100
    page = (tmp_path / "grounding.html").read_text()
    assert page.count("<img") == 8
    assert "&lt;b&gt;x&lt;/b&gt;.ckpt" in page
    assert "<b>x" not in page
    assert f"{results['features']['energy']:.3f}" in page
    assert len(page) < 1e6
    assert (tmp_path / "grounding.png").is_file()


def test_no_images(network, scenes, tmp_path):
    alone = evaluate_grounding(network.backbone, CPU, tmp_path / "o", "random", scenes, pictures=0)
    assert list(alone) == ["features", "classifier", "a Gaussian in the centre"]
    assert not Path(tmp_path / "o").exists()
    with pytest.raises(InputError, match="pictures must be at least 0"):
        evaluate_grounding(network.backbone, CPU, tmp_path, "random", scenes, pictures=-1)


class AsBytes(ScenesDataModule):
    """Loads as for a GPU, wherever the network is."""

    _raw = True


def test_images_as_bytes_give_the_same(network, scenes, tmp_path):
    data = AsBytes(train_count=200, val_count=48, batch_size=20, workers=0)
    data.setup("validate")
    assert next(iter(data.val_dataloader()))["image"].dtype == torch.uint8
    found, wanted = (
        evaluate_grounding(network.backbone, CPU, tmp_path / name, "random", given, pictures=2, classifier_images=100)
        for name, given in (("bytes", data), ("floats", scenes))
    )
    for key, row in wanted.items():
        assert found[key] == pytest.approx(row, abs=1e-3), key
    drawn, expected = (cv2.imread(str(tmp_path / name / "grounding.png")) for name in ("bytes", "floats"))
    assert np.abs(drawn.astype(int) - expected).mean() < 0.1, "up to rounding"


def test_the_loaders_know_the_device(scenes, tmp_path):
    # The classifier's features stop at their first copy back to the host; nothing lies on this device.
    device = torch.device("meta")
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta"):
        evaluate_grounding(open_backbone("random", "tiny_resnet").to(device), device, tmp_path, "random", scenes)
    assert next(iter(scenes.val_dataloader()))["image"].dtype == torch.uint8
