"""``castlit.evaluate +protocol=saliency`` from the command line: no checkpoint, a table of methods."""

import json

from castlit.saliency.algorithms.registry import METHODS

METRICS = {
    *("max_f", "max_f_of_means", "mean_f", "adaptive_f", "weighted_f"),
    *("max_e", "mean_e", "s_measure", "mae", "iou"),
}
SCENES = ["+protocol=saliency", "data.train_count=4", "data.val_count=4", "hydra.run.dir=run"]


def test_table_and_results_file(run_program, tmp_path):
    result = run_program("evaluate", *SCENES, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    written = json.loads((tmp_path / "run" / "results.json").read_text())
    table = written["results"]
    assert list(table)[3:] == list(METHODS)
    for name, figures in table.items():
        assert set(figures) == {*METRICS, "images"}
        assert set(written["intervals"][name]) == METRICS
        for metric, (low, high) in written["intervals"][name].items():
            assert low <= figures[metric] <= high
            assert f"{figures[metric]:.3f}" in result.stdout
            assert f"± {(high - low) / 2:.3f}" in result.stdout
        assert name in result.stdout


def test_unknown_method(run_program, tmp_path):
    result = run_program("evaluate", *SCENES, "protocol.methods=[rdb]", cwd=tmp_path)
    assert result.returncode == 1
    assert "methods must be one of" in result.stderr
    assert "Traceback" not in result.stderr
