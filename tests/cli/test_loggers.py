"""The Grad-CAM panel is sent to the chosen logger, and a line says how to open it."""

import re

QUICK = [
    *("trainer.max_epochs=1", "data.train_count=16", "data.val_count=8", "data.batch_size=8", "data.size=32"),
    *("data.scene_size=40", "data.workers=0", "+callbacks.panel.pixels=32"),
]


def test_tensorboard_gets_figures_and_panel(run_program, tmp_path):
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm"}
    result = run_program("train", "logger=tensorboard", "hydra.run.dir=r", *QUICK, cwd=tmp_path, **terminal)
    assert result.returncode == 0, result.stderr
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "r" / "tensorboard"))
    events.Reload()
    assert "val/pointing" in events.Tags()["scalars"]
    assert len(events.Images("gradcam")) == 2, "before and after training"
    assert (tmp_path / "r" / "metrics.csv").is_file(), "CSV is always written"
    assert "TensorBoard: " in result.stdout
    assert "tensorboard.main --logdir r/tensorboard\n" in result.stdout.replace("tensorboard --", "tensorboard.main --")
    # On a terminal there is a bar, and the lines of progress are in the log alone.
    assert "Epoch 1 of 1" in result.stdout
    assert "train/loss" in result.stdout, "the progress bar was shown"
    assert "v_num" not in result.stdout
    assert "step 2 of 2" not in result.stdout
    log = (tmp_path / "r" / "train.log").read_text()
    assert re.search(r"Epoch 1 of 1, step 2 of 2: train/loss \d\.\d{3}, .*; [\d.]+ images/s, 0:00:00 left\n", log)
    assert "data.batch_size" not in log
    assert "method.queue_size=2048: more than the 16 images" in log


def test_wandb_offline_in_sweep(run_program, tmp_path):
    result = run_program(
        "train",
        "-m",
        "logger=wandb",
        "attention.weight=1,3",
        "hydra.sweep.dir=s",
        *QUICK,
        cwd=tmp_path,
        # Hide any account on this machine.
        WANDB_API_KEY="",
        HOME=str(tmp_path),
    )
    assert result.returncode == 0, result.stderr
    for job in ("0", "1"):
        runs = list((tmp_path / "s" / job / "wandb").glob("offline-run-*"))
        assert len(runs) == 1
        assert list(runs[0].glob("*.wandb")), "the run's record"
        assert len(list(runs[0].glob("files/media/images/gradcam*.png"))) == 2
        assert (tmp_path / "s" / job / "metrics.csv").is_file()
        assert f"wandb sync s/{job}/wandb/{runs[0].name}\n" in result.stdout
        assert f"Metrics: s/{job}/metrics.csv\n" in result.stdout
