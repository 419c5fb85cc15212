import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from castlit.evaluation.backgrounds import VARIANTS, evaluate_backgrounds, make, make_backgrounds
from castlit.utils.json_files import load_json, write_json
from castlit.utils.validation import InputError

CPU = torch.device("cpu")
NAMES = ["apple", "kiwi", "plum"]


class Looks(nn.Module):
    """Measures how much of three colours there is among bright pixels (object) or dark ones (background)."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def forward(self, x):
        std, mean = torch.tensor([0.229, 0.224, 0.225]), torch.tensor([0.485, 0.456, 0.406])
        level = x * std.view(3, 1, 1) + mean.view(3, 1, 1)
        most = level.amax(1, keepdim=True)
        bright = most > 0.5
        there = bright if self.at == "object" else ~bright & (most > 0.1)
        return (there & (level == most)).float()


def evaluate(at, folder, **given):
    settings = {"size": 40, "workers": 0, "strength": 10.0, **given}
    return evaluate_backgrounds(Looks(at), CPU, folder, 0, **settings)


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_gap_of_object_and_background_features(own, tmp_path):
    objects = evaluate("object", tmp_path / "a", make_from=own)
    assert list(objects) == [*VARIANTS, "bg_gap"]
    for name in ("original", "mixed_same", "mixed_rand", "mixed_next", "only_fg"):
        assert objects[name] == 100
    assert objects["bg_gap"] == 0
    assert objects["no_fg"] == pytest.approx(100 / 3)
    grounds = evaluate("ground", tmp_path / "b", make_from=own)
    assert grounds["original"] == grounds["mixed_same"] == grounds["only_bg_t"] == grounds["no_fg"] == 100
    assert grounds["mixed_next"] == 0
    assert grounds["only_fg"] == pytest.approx(100 / 3)
    assert grounds["bg_gap"] == grounds["mixed_same"] - grounds["mixed_rand"] > 0


def test_seed_fixes_files(own, tmp_path):
    one = make_backgrounds(own, tmp_path / "one", 24, seed=3, workers=0)
    for other in (make_backgrounds(own, tmp_path / "two", 24, seed=3, workers=2),):
        assert files_of(one) == files_of(other)
    assert files_of(make_backgrounds(own, tmp_path / "three", 24, seed=4, workers=0)) != files_of(one)
    counts = {name: len(list((one / name / "val").rglob("*.png"))) for name in VARIANTS}
    assert set(counts.values()) == {9}
    assert len(list((one / "original" / "train").rglob("*.png"))) == 21
    tested = {path.relative_to(one / "original" / "val") for path in (one / "original" / "val").rglob("*.png")}
    trained = {path.relative_to(one / "original" / "train") for path in (one / "original" / "train").rglob("*.png")}
    assert not tested & trained


def test_mixed_backgrounds(own, tmp_path):
    made = make_backgrounds(own, tmp_path / "made", 40, workers=0)
    grounds = {"apple": (90, 60, 60), "kiwi": (60, 90, 60), "plum": (60, 60, 90)}
    for number, name in enumerate(NAMES):
        for kind, expected in (("mixed_same", name), ("mixed_next", NAMES[(number + 1) % 3])):
            for path in (made / kind / "val" / name).iterdir():
                colours = {tuple(pixel) for pixel in np.asarray(Image.open(path)).reshape(-1, 3).tolist()}
                assert grounds[expected] in colours
                assert len(colours) == 2


def interrupted(*_, **__):
    raise KeyboardInterrupt


def test_variants_are_reused_and_completed(own, tmp_path, monkeypatch):
    made = make_backgrounds(own, tmp_path / "made", 24, workers=0)
    before = files_of(made)
    times = {path: path.stat().st_mtime_ns for path in made.rglob("*.png")}
    make_backgrounds(own, made, 24, workers=0)
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*.png")} == times
    monkeypatch.setattr(make, "_mix", interrupted)
    shutil.rmtree(made)
    with pytest.raises(KeyboardInterrupt):
        make_backgrounds(own, made, 24, workers=0)
    monkeypatch.undo()
    for other in ({"seed": 1}, {"val_share": 0.5}, {"threshold": 0.9}):
        with pytest.raises(InputError, match="of other images or settings"):
            make_backgrounds(own, made, 24, workers=0, **other)
    make_backgrounds(own, made, 24, workers=0)
    assert files_of(made) == before
    record = load_json((made / "made.json").read_bytes())
    assert record.pop("complete")
    write_json(made / "made.json", record)
    make_backgrounds(own, made, 24, workers=0)
    assert load_json((made / "made.json").read_bytes()) == record, "complete, as castlit 0.2 wrote it"
    (made / "made.json").unlink()
    with pytest.raises(InputError, match="of other images or settings"):
        make_backgrounds(own, made, 24, workers=0)
    write_json(made / "made.json", record)
    with pytest.raises(InputError, match="of other images or settings"):
        make_backgrounds(own, made, 32, workers=0)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds thesis\.txt"):
        make_backgrounds(own, tmp_path / "other", 32, workers=0)


def test_label_maps(own, tmp_path):
    before = files_of(make_backgrounds(own, tmp_path / "masks", 24, workers=0))
    for path in (own / "masks").rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path)) // 255 * np.uint8(13)).save(path)
    with pytest.raises(InputError, match=r"0\.png: a label map, .* set mask_kind=labels"):
        make_backgrounds(own, tmp_path / "refused", 24, workers=0)
    after = files_of(make_backgrounds(own, tmp_path / "labels", 24, workers=0, mask_kind="labels"))
    assert {name: data for name, data in after.items() if name.suffix == ".png"} == {
        name: data for name, data in before.items() if name.suffix == ".png"
    }
    with pytest.raises(InputError, match="mask_kind must be one of"):
        make_backgrounds(own, tmp_path / "labels", 24, workers=0, mask_kind="label")


def test_two_images_with_one_mask(own, tmp_path):
    Image.open(own / "images" / "plum" / "4.png").save(own / "images" / "plum" / "4.jpg")
    with pytest.raises(InputError, match=r"plum/4\.(jpg|png) and .*plum/4\.(jpg|png) have the same mask: rename one"):
        make_backgrounds(own, tmp_path / "made", 24, workers=0)


def test_skipped_images_are_listed(own, tmp_path):
    Image.new("L", (60, 40), 0).save(own / "masks" / "kiwi" / "3.png")
    Image.new("L", (60, 40), 255).save(own / "masks" / "plum" / "4.png")
    made = make_backgrounds(own, tmp_path / "made", 24, workers=0)
    lines = (made / "left_out.csv").read_text().splitlines()[1:]
    assert [line.partition("images/")[2] for line in lines] == [
        "kiwi/3.png,the mask is empty",
        "plum/4.png,the object's box covers 100% of the image",
    ]
    assert not list(made.rglob("kiwi/3.png*"))


def test_messages_on_own_data(own, tmp_path):
    (own / "images" / "plum" / "5.png").write_bytes(b"none")
    with pytest.raises(InputError, match=r"plum/5\.png: is not an image"):
        make_backgrounds(own, tmp_path / "made", 24, workers=0)
    (own / "masks" / "plum" / "5.png").unlink()
    with pytest.raises(InputError, match=r"masks/plum/5\.png: no such file; each image needs its mask"):
        make_backgrounds(own, tmp_path / "made", 24, workers=0)
    for path in list((own / "images" / "plum").iterdir())[2:]:
        path.unlink()
    with pytest.raises(InputError, match=r"class plum has [0-2] usable images"):
        make_backgrounds(own, tmp_path / "made", 24, workers=0)
    with pytest.raises(InputError, match=r"data\.root=.* or data\.make_from="):
        evaluate("object", tmp_path / "run")


def head_file(path, weight):
    torch.save({"state_dict": {"fc.weight": weight, "fc.bias": torch.zeros(len(weight))}}, path)
    return path


def test_mapped_head(own, tmp_path):
    made = make_backgrounds(own, tmp_path / "made", 40, workers=0)
    shutil.rmtree(made / "only_bg_b")
    # Outputs 1, 3 and 4 respond to the three colours, output 0 to none; output 2 is never the highest.
    weight = torch.zeros(5, 3)
    weight[1, 0] = weight[3, 1] = weight[4, 2] = 1
    weight[2] = -1
    head = head_file(tmp_path / "head.pth", weight)
    mapping = tmp_path / "in_to_in9.json"
    mapping.write_text(json.dumps({"0": -1, "1": 0, "2": -1, "3": 1, "4": 2}))
    results = evaluate("object", tmp_path / "run", root=made, head=head, mapping=mapping)
    assert results["original"] == results["mixed_rand"] == 100
    assert results["no_fg"] == 0  # output 0 means none of them
    assert "only_bg_b" not in results
    mapping.write_text(json.dumps({"0": 2, "1": 1, "2": -1, "3": 1, "4": 2}))
    assert evaluate("object", tmp_path / "run", root=made, head=head, mapping=mapping)["original"] == pytest.approx(
        200 / 3
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", "is not a JSON object"),
        ("{", "is not a JSON object"),
        ("[" * 100_000, "is not a JSON object"),
        ('{"0": 0, "1": 1}', "output '2' of the head's 4 is missing"),
        ('{"0": 0, "1": 1, "2": 7, "3": 0}', "classes are -1 to 2, got 0 to 7"),
    ],
)
def test_invalid_mapping(own, tmp_path, content, message):
    made = make_backgrounds(own, tmp_path / "made", 40, workers=0)
    head = head_file(tmp_path / "head.pth", torch.zeros(4, 3))
    with pytest.raises(InputError, match=r"4 outputs for 3 classes: give protocol\.mapping"):
        evaluate("object", tmp_path / "run", root=made, head=head)
    (tmp_path / "map.json").write_text(content)
    with pytest.raises(InputError, match=message):
        evaluate("object", tmp_path / "run", root=made, head=head, mapping=tmp_path / "map.json")


def test_messages_on_heads_and_folders(own, tmp_path):
    made = make_backgrounds(own, tmp_path / "made", 40, workers=0)
    with pytest.raises(InputError, match="takes 7 features, but the backbone gives 3"):
        evaluate("object", tmp_path / "r", root=made, head=head_file(tmp_path / "h.pth", torch.zeros(3, 7)))
    torch.save({"weight": torch.zeros(3, 3), "bias": torch.zeros(2)}, tmp_path / "h.pth")
    with pytest.raises(InputError, match="its bias is not that of its weight, which has 3 outputs"):
        evaluate("object", tmp_path / "r", root=made, head=tmp_path / "h.pth")
    torch.save({"weight": nn.Parameter(torch.eye(3))}, tmp_path / "h.pth")
    evaluate("object", tmp_path / "r", root=made, head=tmp_path / "h.pth")
    torch.save({"layer": torch.zeros(3)}, tmp_path / "h.pth")
    with pytest.raises(InputError, match="no linear layer in it"):
        evaluate("object", tmp_path / "r", root=made, head=tmp_path / "h.pth")
    (made / "mixed_rand" / "val" / "plum").rename(made / "mixed_rand" / "val" / "prune")
    with pytest.raises(
        InputError, match="mixed_rand/val does not have the classes of the training images: plum, prune"
    ):
        evaluate("object", tmp_path / "r", root=made)
    shutil.rmtree(made / "original" / "train")
    with pytest.raises(InputError, match="no such folder to train a head on"):
        evaluate("object", tmp_path / "r", root=made)
    with pytest.raises(InputError, match="holds no variant"):
        evaluate("object", tmp_path / "r", root=own)
    with pytest.raises(InputError, match=r"protocol\.mapping describes the outputs of protocol\.head"):
        evaluate("object", tmp_path / "r", root=made, mapping=tmp_path / "map.json")
    with pytest.raises(FileNotFoundError, match=r"data\.root=.*nowhere does not exist: give the folder"):
        evaluate("object", tmp_path / "r", root=tmp_path / "nowhere")
