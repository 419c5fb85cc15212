import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from castlit.data import MEAN, STD, collate
from castlit.data.datamodules.datasets import images_on, normalise
from castlit.data.io.errors import SampleError
from castlit.evaluation.frozen import FrozenFeatures, ImageList, read_class_folders
from castlit.nn import build_backbone
from castlit.utils.validation import InputError
from support.host_traffic import CopiesToDevice

CPU = torch.device("cpu")


class Pixels(nn.Module):
    """Returns the image, and counts images."""

    def __init__(self):
        super().__init__()
        self.seen = 0
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        self.seen += len(x)
        return x * self.scale


@pytest.fixture
def folder(tmp_path):
    """Six images of two classes, upper and lower halves of different grey."""
    for i in range(6):
        pixels = np.full((32, 32, 3), 40 * i, np.uint8)
        pixels[16:] = 255
        place = tmp_path / "photos" / ("left" if i < 4 else "right")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{i}.png")
    return tmp_path / "photos"


def test_features_are_cell_means(folder):
    images, classes = read_class_folders(folder, "data.root")
    assert classes == ["left", "right"]
    assert images.labels.tolist() == [0, 0, 0, 0, 1, 1]
    features = FrozenFeatures(Pixels(), CPU, 32, 32, pool=2, batch_size=4, workers=0)(images).reshape(6, 3, 2, 2)
    mean, std = np.array(MEAN), np.array(STD)
    for i in range(6):
        for row, level in enumerate((40 * i, 255)):
            expected = (level / 255 - mean) / std
            np.testing.assert_allclose(features[i, :, row, :], np.stack([expected] * 2, 1), atol=1e-5)


def test_cache(folder, tmp_path):
    images, _ = read_class_folders(folder, "data.root")
    network = Pixels()

    def compute(**settings):
        before = network.seen
        given = {"size": 32, "resize": 32, "workers": 0, "cache": tmp_path / "cache", **settings}
        features = FrozenFeatures(network, CPU, **given)(images)
        return features, network.seen - before

    first, seen = compute()
    assert seen == 6
    again, seen = compute()
    assert seen == 0
    np.testing.assert_array_equal(first, again)
    assert compute(pool=2)[1] == 6
    assert compute(resize=40)[1] == 6
    with torch.no_grad():
        network.scale.mul_(2)
    other, seen = compute()
    assert seen == 6
    np.testing.assert_allclose(other, 2 * first, rtol=1e-6)
    Image.new("RGB", (32, 32)).save(folder / "left" / "0.png")
    assert compute()[1] == 6
    for damaged in (lambda data: data[:100], lambda data: data.replace(b"}", b" ", 1), lambda data: b""):
        for file in (tmp_path / "cache").iterdir():
            file.write_bytes(damaged(file.read_bytes()))
        assert compute()[1] == 6


def test_batch_size_and_workers_change_nothing(folder):
    images, _ = read_class_folders(folder, "data.root")
    network = build_backbone("tiny_resnet").eval()
    one = FrozenFeatures(network, CPU, 32, batch_size=1, workers=0)(images)
    many = FrozenFeatures(network, CPU, 32, batch_size=4, workers=2)(images)
    assert one.shape == (6, 128)
    np.testing.assert_allclose(one, many, atol=1e-5)


@pytest.mark.usefixtures("ended_workers")
@pytest.mark.parametrize("workers", [0, 1])
def test_bad_image(folder, workers):
    (folder / "left" / "1.png").write_bytes(b"no image")
    images, _ = read_class_folders(folder, "data.root")
    with pytest.raises(SampleError, match=r"left/1\.png: is not an image") as caught:
        FrozenFeatures(Pixels(), CPU, 32, workers=workers)(images)
    assert "\n" not in str(caught.value)


def test_invalid_features(folder):
    images, _ = read_class_folders(folder, "data.root")
    with pytest.raises(InputError, match="leave its classifier off"):
        FrozenFeatures(nn.Flatten(), CPU, 32, workers=0)(images)
    broken = Pixels()
    broken.scale.data.fill_(torch.inf)
    with pytest.raises(InputError, match="not finite"):
        FrozenFeatures(broken, CPU, 32, workers=0)(images)


def test_invalid_class_folders(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data\.root="):
        read_class_folders(tmp_path / "nowhere", "data.root")
    with pytest.raises(InputError, match="does not have the classes of the training images: right, wrong differ"):
        read_class_folders(folder, "data.root", ["left", "wrong"])
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no image"):
        read_class_folders(folder, "data.root")
    with pytest.raises(InputError, match="one for each class"):
        read_class_folders(folder / "left", "data.root")


def test_subset(folder):
    images, _ = read_class_folders(folder, "data.root")
    some = images.subset(np.array([5, 0]))
    assert isinstance(some, ImageList)
    assert [some.path(0), some.path(1)] == [images.path(5), images.path(0)]
    assert some.labels.tolist() == [1, 0]


def test_images_go_to_the_device_as_bytes(folder):
    device = torch.device("meta")
    normalise(torch.empty(1, 3, 1, 1, dtype=torch.uint8, device=device))  # keeps its constants there
    images, _ = read_class_folders(folder, "data.root")
    features = FrozenFeatures(Pixels().to(device), device, 32, 32, batch_size=4, workers=0)
    with CopiesToDevice() as copies, pytest.raises(NotImplementedError, match="Cannot copy out of meta"):
        features(images)
    assert copies.found == [("aten._to_copy.default", (4, 3, 32, 32), torch.uint8)]


def test_bytes_give_the_same_images():
    samples = [{"image": np.random.default_rng(i).integers(0, 256, (5, 7, 3), np.uint8)} for i in range(3)]
    found = images_on(collate(samples, raw=True)["image"], CPU)
    wanted = collate(samples)["image"]
    assert torch.allclose(found, wanted, atol=1e-5)
    assert images_on(wanted, CPU) is wanted, "those that are normalised stay"
