"""A study's metrics, tables and page."""

import json

import numpy as np
from PIL import Image

from castlit.experiments.read_runs import evaluated_metrics
from castlit.experiments.study_plan import plan
from castlit.experiments.study_report import write_report
from castlit.experiments.study_tables import Study, differences, means, missing_metric


def test_nested_metrics_are_named_by_path(tmp_path):
    run = plan({"a": []}, 1, [], tmp_path)[0]
    (run.folder / "evaluation").mkdir(parents=True)
    (run.folder / "summary.json").write_text('{"seconds": 3, "metrics": {"val/knn": {"start": 0.1, "end": 0.2}}}')
    results = {"voc07": {"mAP": 25.0}, "grounding": {"pretext": {"pointing": 0.5}}}
    (run.folder / "evaluation" / "results.json").write_text(json.dumps({"results": results}))
    assert evaluated_metrics(run.folder, ["voc07/mAP"]) == {
        "voc07/mAP": 0.25,
        "grounding/pretext/pointing": 0.5,
        "val/knn": 0.2,
        "seconds": 3.0,
    }


def test_report_ignores_images_of_running_runs(tmp_path):
    done, running = plan({"done": [], "running": []}, 1, [], tmp_path)
    for run in (done, running):
        run.folder.mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(run.folder / "gradcam.png")
    (running.folder / "gradcam.png").write_bytes((running.folder / "gradcam.png").read_bytes()[:40])
    metrics = {"done": {0: {"knn": 0.5, "seconds": 10.0}}, "running": {}}
    page = write_report(tmp_path, Study("Study", "Whether.", ["knn"], []), [done, running], metrics, {}).read_text()
    assert page.count("data:image/jpeg") == 2, "the plot, and the one panel"
    assert "done, seed 0" in page
    assert "running, seed 0" not in page


def test_seconds_are_a_median():
    seconds = {seed: {"knn": 0.5, "seconds": value} for seed, value in enumerate([10.0, 90.0, 12.0])}
    header, rows = means(Study("", "", ["knn"], []), {"a": seconds, "b": {}})
    assert header == ["", "seeds", "knn", "seconds of training"]
    assert rows == [["a", "3", "50.0 ± 0.0", "12"], ["b", "0", "", ""]]


def test_seed_count_of_incomplete_metric():
    seeds = {0: {"knn": 0.5, "seconds": 1.0}, 1: {"seconds": 1.0}}
    assert means(Study("", "", ["knn"], []), {"a": seeds})[1] == [["a", "2", "50.0 (n=1)", "1"]]


def test_pair_count_of_incomplete_difference():
    pairs = Study("", "", ["knn"], [("b", "a")])
    one, two, three = ({seed: {"knn": 0.5 + seed / 10} for seed in range(count)} for count in (1, 2, 3))
    assert differences(pairs, {"a": two, "b": three})[1] == [["b - a", "0.0 ± 0.0 (n=2)"]]
    assert differences(pairs, {"a": one, "b": two})[1] == [["b - a", "0.0 (n=1)"]]
    assert differences(pairs, {"a": two, "b": two})[1] == [["b - a", "0.0 ± 0.0"]]


def test_missing_metric_is_reported():
    assert missing_metric({"a": {}}, "kn") == ""
    assert missing_metric({"a": {0: {"knn": 0.5}}}, "knn") == ""
    assert missing_metric({"a": {}, "b": {0: {"knn": 0.5}}}, "kn") == "no run has the metric kn (did you mean 'knn'?)"
