"""``castlit.evaluate +protocol=all``: the protocols that run, and the report."""

import json
import re

from PIL import Image

from castlit.cli.protocols import protocols
from castlit.evaluation.report import Section, write_report
from castlit.reporting.published import PublishedRow

SMALL = ["checkpoint=random", "backbone=tiny_resnet", "data.train_count=48", "data.val_count=12", "data.workers=0"]


def test_report_page(tmp_path):
    sections = [
        Section("voc07", {"mAP": 12.3}, [PublishedRow("CAST", {"mAP": 73.1}, "a paper")], 61.4, tmp_path),
        Section("grounding", {"features": {"iou": 0.25}, "<centre>": {"iou": 0.125}}, [], 2.0, tmp_path / "g"),
        Section("linear", not_run="needs a folder"),
        Section("knn", failed="no such <folder>"),
    ]
    size = write_report(tmp_path / "report.html", "last.ckpt", sections)
    page = (tmp_path / "report.html").read_text()
    assert size == len(page.encode())
    for text in ("12.3", "73.1", "CAST [published *]", "published, not run here: a paper", "0.125", "Took 61 s."):
        assert text in page
    assert "&lt;centre&gt;" in page
    assert page.index("<h2>Failed") < page.index("knn: no such &lt;folder&gt;") < page.index("linear: needs a folder")
    # The page loads no external files.
    assert not re.search(r"(src|href)=\"(?!data:)", page)


def test_picture_of_the_training_run(tmp_path, monkeypatch):
    """A picture of that name that lies anywhere else is not the run's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for place in (tmp_path, tmp_path / "run"):
        Image.new("RGB", (8, 8)).save(place / "gradcam.png")
    (tmp_path / "run" / "config.yaml").write_text("")
    for checkpoint, shown in (("run/checkpoints/last.ckpt", 1), ("last.ckpt", 0), ("random", 0), ("a/x.pth", 0)):
        write_report(tmp_path / "report.html", checkpoint, [])
        assert (tmp_path / "report.html").read_text().count("<img") == shown, checkpoint


def test_own_configurations(run_program, tmp_path):
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "data" / "few.yaml").write_text("defaults: [scenes]\ntrain_count: 40\nval_count: 10\n")
    words = ["--config-dir", "mine", "+protocol=all", *SMALL[:2], "data=few", "data.workers=0", "hydra.run.dir=run"]
    result = run_program("evaluate", *words, "protocol.skip=[scenes,saliency]", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())["results"]
    assert results["grounding"]["features"]["images"] == 10


def test_runs_and_skips_protocols(run_program, tmp_path):
    words = ["+protocol=all", *SMALL, "protocol.skip=[scenes]", "protocol.settings={saliency: {methods: [rbd]}}"]
    result = run_program("evaluate", *words, "compare=random", "hydra.run.dir=run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "run" / "report.html").read_text()
    results = json.loads((tmp_path / "run" / "results.json").read_text())["results"]
    assert {"grounding", "saliency"} <= set(results)
    assert list(results["saliency"])[-1] == "rbd"
    assert "features (compare)" in results["grounding"]
    for name in protocols():
        assert f"<h2>{name}</h2>" in page or f"<p>{name}: " in page or name == "all", name
    assert "scenes: left out by protocol.skip" in page
    assert page.count("<img") == 1
    assert len(page) < 1e6
    assert f"({len(page) / 1e6:.1f} MB)" in result.stdout
    for name, figures in results.items():
        assert json.loads((tmp_path / "run" / name / "results.json").read_text())["results"] == figures


def test_failing_protocols(run_program, tmp_path):
    settings = "protocol.settings={scenes: {train_count: 0}, grounding: {pictures: 0}}"
    words = ["+protocol=all", *SMALL, "protocol.skip=[saliency]", "protocol.roots.voc=/no/such/VOC devkit", settings]
    result = run_program("evaluate", *words, "hydra.run.dir=run", cwd=tmp_path)
    assert result.returncode == 1
    (told,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    for word in ("scenes (", "voc07 (", "voc_detection (", "/no/such/VOC devkit"):
        assert word in told
    assert "grounding (" not in told
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<h2>grounding</h2>" in page
    assert "<p>scenes: " in page


def test_one_line_errors(run_program, tmp_path):
    for words, told in (
        ([SMALL[0], "protocol.skip=[ground]"], "did you mean 'grounding'"),
        ([SMALL[0], "protocol.settings={voc07: 3}"], "protocol.settings={voc07: 3}: give its keys"),
        ([], "checkpoint must be given"),
    ):
        result = run_program("evaluate", "+protocol=all", *words, "hydra.run.dir=run", cwd=tmp_path)
        assert result.returncode == 1
        assert told in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr
