"""Batches: mirroring, and messages about broken images."""

import numpy as np
import pytest
import torch

from castlit.data.io.errors import SampleError
from castlit.evaluation.detection import read_coco, read_voc
from castlit.evaluation.detection.data import DetectionData, DetectionDataset
from castlit.utils.validation import InputError

SPLITS = (("VOC2007/trainval", "VOC2012/trainval"), ("VOC2007/test",))


def test_mirrored_boxes_and_masks(coco):
    dataset = DetectionDataset(read_coco(coco).train, seed=0, train=True, masks=True)
    mirrored = 0
    for epoch in range(40):
        sample = dataset[epoch, 0]
        assert sample["target"]["labels"].tolist() == [1, 2]  # without the crowd
        for box, mask in zip(sample["target"]["boxes"], sample["target"]["masks"], strict=True):
            left, top, right, bottom = box.int().tolist()
            # The rectangles are bright, and fill their boxes, and so do the masks.
            assert sample["image"][0, top:bottom, left:right].float().mean() > 200
            assert mask[top:bottom, left:right].all()
            assert mask.sum() == (right - left) * (bottom - top)
        mirrored += int(sample["target"]["boxes"][0, 0]) != 8
    assert 10 < mirrored < 30
    assert torch.equal(dataset[3, 0]["image"], dataset[3, 0]["image"])


def test_image_size_differs_from_annotation(voc):
    file = voc / "VOC2007" / "Annotations" / "000001.xml"
    file.write_text(file.read_text().replace("<width>96", "<width>97"))
    dataset = DetectionDataset(read_voc(voc, *SPLITS).train, seed=0, train=True, masks=False)
    with pytest.raises(SampleError, match=r"000001.jpg: is of 96 x 72 px, but its annotation says 97 x 72"):
        dataset[0, 0]
    dataset.records[1].path.write_bytes(b"")
    with pytest.raises(SampleError, match=r"000003.jpg: the file is empty"):
        dataset[0, 1]


def test_invalid_segmentation(coco):
    record = read_coco(coco).train[1]
    dataset = DetectionDataset([record._replace(segments=[{"size": [1, 2], "counts": "x"}, []])], 0, True, True)
    with pytest.raises(SampleError, match=r"000000000002.jpg: a segmentation of this image is not COCO's"):
        dataset[0, 0]


def test_batches(voc):
    found = read_voc(voc, *SPLITS)
    data = DetectionData(found.train, found.test, batch_size=2, workers=0)
    batches = list(data.train_dataloader())
    assert len(batches) == 1  # three images, the last one of an epoch is left out
    assert [image.dtype for image in batches[0]["images"]] == [torch.uint8] * 2
    assert batches[0]["targets"][0]["boxes"].dtype == torch.float32
    assert [batch["number"].tolist() for batch in data.val_dataloader()] == [[1], [2]]
    assert "targets" not in next(iter(data.val_dataloader()))
    assert data.sources[0].image_path(2).name == "2008_000001.jpg"
    # An image with nothing in it can be tested on.
    empty = found.test[0].only(np.zeros(2, bool))
    assert len(list(DetectionData(found.train, [empty], 2, workers=0).val_dataloader())) == 1


def test_indivisible_batch(voc, monkeypatch):
    found = read_voc(voc, *SPLITS)
    monkeypatch.setattr("castlit.evaluation.detection.data.world_size", lambda: 3)
    with pytest.raises(InputError, match=r"batch_size=16 cannot be shared equally among 3 processes"):
        DetectionData(found.train, found.test, 16).train_dataloader()
