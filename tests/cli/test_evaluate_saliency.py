"""``castlit.evaluate +protocol=saliency`` from the command line: no checkpoint, a table of methods."""

import json

SCENES = ["+protocol=saliency", "data.train_count=4", "data.val_count=4", "hydra.run.dir=run"]


def test_table_and_results_file(run_program, tmp_path):
    result = run_program("evaluate", *SCENES, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    table = json.loads((tmp_path / "run" / "results.json").read_text())["results"]
    assert list(table)[3:] == ["rbd", "dsr", "mc", "hs", "fast", "fused"]
    for name, figures in table.items():
        assert set(figures) == {"max_f", "mean_f", "mae", "s_measure", "iou", "images"}
        assert f"{figures['max_f']:.3f}" in result.stdout
        assert name in result.stdout


def test_unknown_method(run_program, tmp_path):
    result = run_program("evaluate", *SCENES, "protocol.methods=[rdb]", cwd=tmp_path)
    assert result.returncode == 1
    assert "methods must be one of" in result.stderr
    assert "Traceback" not in result.stderr
