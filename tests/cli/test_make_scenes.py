"""Scenes as files: the program, and training on masks made from them."""

import json


def test_scenes_then_masks_then_training(run_program, tmp_path):
    made = run_program("make_scenes", "output=scenes", "train_count=32", "val_count=16", "size=40", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "32 + 16 scenes" in made.stdout
    assert len(list((tmp_path / "scenes").glob("images/train/*/*.png"))) == 32
    assert len(list((tmp_path / "scenes").glob("masks/val/*/*.png"))) == 16
    masks = run_program("make_masks", "images=scenes/images/train", "output=rbd", "workers=0", cwd=tmp_path)
    assert masks.returncode == 0, masks.stderr
    small = ["data.train_count=32", "data.val_count=16", "data.size=32", "data.scene_size=40", "data.batch_size=16"]
    words = [
        *small,
        "data.workers=0",
        "callbacks.panel=null",
        "trainer.max_epochs=1",
        "method.queue_size=32",
        "hydra.run.dir=run",
    ]
    trained = run_program("train", "+experiment=cast_mocov2", "data.masks=rbd", *words, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["metrics"]["train/attention"]
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "scenes").rglob("*.png")}
    same = ["train_count=32", "val_count=16", "size=40"]
    for words, line in (
        (["val_split=mixed", *same], "output=scenes has scenes of other settings"),
        (["seed=1", *same], "output=scenes has scenes of other settings"),
        (["output=new", "val_split=train"], "val_split must be one of original, mixed_same"),
    ):
        wrong = run_program("make_scenes", "output=scenes", *words, cwd=tmp_path)
        assert wrong.returncode == 1
        assert wrong.stderr.startswith(f"error: {line}")
        assert len(wrong.stderr.strip().splitlines()) == 1
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "scenes").rglob("*.png")} == times, "nothing written"
    assert not (tmp_path / "new").exists()
    assert run_program("make_scenes", "output=scenes", *same, cwd=tmp_path).returncode == 0
