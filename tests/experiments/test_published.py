"""The numbers in README and documentation are those of the committed results."""

import itertools
import json
import re

import pytest
import yaml
from hydra import compose, initialize_config_module

from castlit.experiments.estimates import difference, estimate, estimates
from castlit.experiments.study_tables import Study, differences, means

PAGES = {
    "cast": "scenes",
    "ablations": "ablations",
    "photographs": "photographs",
    "attention_photographs": "attention_photographs",
    "attention_scenes": "attention_scenes",
    "attention_methods": "attention_methods",
    "attention_tiny100": "attention_tiny100",
}
"""The page of each study."""

UNFINISHED = ("attention_methods", "attention_tiny100")
"""Studies of which some runs are still to be done; their pages say how many."""

# The values given for what a study's config leaves open, and the overrides of all its runs.
STUDIES = {
    "cast": ({}, []),
    "ablations": ({"${output}": "studies/ablations"}, []),
    "attention_photographs": ({"${photos}": "photos", "${masks}": "photo_masks"}, []),
    "attention_scenes": ({}, []),
    "attention_methods": ({}, []),
    "attention_tiny100": (
        {"${masks}": "tiny/masks", "${tiny}": "tiny"},
        [],
    ),
    "photographs": (
        {"${photos}": "photos", "${masks}": "photo_masks"},
        [
            *("trainer.max_epochs=40", "trainer.check_val_every_n_epoch=10", "data.val_count=128"),
            *("method.queue_size=1024", "optimizer.lr=0.06"),
        ],
    ),
}


def committed(repository, name):
    """A study and its metrics, from the committed figures.json of castlit.study."""
    data = json.loads((repository / "benchmarks" / "results" / f"study_{name}.json").read_text())
    config = yaml.safe_load((repository / "conf" / "study" / f"{name}.yaml").read_text())
    metrics = {arm: {int(seed): found for seed, found in seeds.items()} for arm, seeds in data["figures"].items()}
    return Study(data["title"], config["about"], config["columns"], data["pairs"]), metrics, data, config


@pytest.mark.parametrize("name", STUDIES)
def test_study_tables_in_docs(repository, name):
    study, metrics, data, config = committed(repository, name)
    folder = repository / "docs" / "studies"
    page, everything = ((folder / f"{file}.md").read_text().splitlines() for file in (PAGES[name], "all_metrics"))
    for header, rows in (means(study, metrics), differences(study, metrics)):
        shown = next(line for line in page if line.startswith("| |") and any(name in line for name in study.columns))
        chosen = [0, *(header.index(column.strip()) for column in shown.strip("| ").split(" | "))]
        assert 3 <= len(chosen) <= 5, "a table that fits the page"
        for row in rows:
            assert f"| {' | '.join(row)} |" in everything
            assert f"| {' | '.join(row[i] for i in chosen)} |" in page
    assert all(f"`{run}`" in "\n".join(page) for run in data["failed"])
    assert name in UNFINISHED or not data["failed"]
    given, overrides = STUDIES[name]
    for key, value in given.items():
        config = json.loads(json.dumps(config).replace(key, value))
    base = config.get("base", [])
    assert data["arms"] == {arm: [*base, *words, *overrides] for arm, words in config["arms"].items()}
    assert all(f'"{word}"' in "\n".join(page) for word in overrides), "a reader can repeat it"
    done, planned = sum(map(len, metrics.values())), len(metrics) * max(map(len, metrics.values()))
    if name in UNFINISHED:
        planned = len(config["arms"]) * config["seeds"]
        assert f"{done} of {planned} runs" in "\n".join(page)
    else:
        assert done == planned, "no run is left out"


def test_restored_study_has_the_same_figures(repository, run_python, run_program, tmp_path):
    file = repository / "benchmarks" / "results" / "study_attention_photographs.json"
    words = [
        "study=attention_photographs",
        "photos=photos",
        "masks=photo_masks",
        "voc=v",
        "test_photos=p",
        "test_masks=m",
    ]
    script = repository / "benchmarks" / "restore_study.py"
    other = run_python(script, file, *words, "arms.mocov2=[+experiment=mocov1]", "output=other", cwd=tmp_path)
    assert "study_attention_photographs.json has mocov2, seed 0 with other words than data=folder" in other.stderr
    restored = run_python(script, file, *words, cwd=tmp_path)
    assert restored.returncode == 0, restored.stderr
    again = run_program("study", *words, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    before = json.loads(file.read_text())
    after = json.loads((tmp_path / "studies" / "attention_photographs" / "figures.json").read_text())
    assert after["arms"] == before["arms"]
    for arm, seeds in before["figures"].items():
        assert after["figures"][arm] == {seed: pytest.approx(found) for seed, found in seeds.items()}


def test_short_study_in_docs(repository):
    _, metrics, data, config = committed(repository, "attention_quick")
    assert data["arms"] == {arm: [*config["base"], *words] for arm, words in config["arms"].items()}
    random = [f"{100 * metrics[arm][0]['linear/mixed_rand']:.1f} %" for arm in config["arms"]]
    page = (repository / "docs" / "studies" / "attention_scenes.md").read_text()
    assert "is {} (MoCo v2), {} (the paper's score) and {} (evidence)".format(*random) in page


def test_gradients_and_losses_in_docs(repository):
    results = repository / "benchmarks" / "results"
    page = (repository / "docs" / "studies" / "attention_methods.md").read_text()
    measured = json.loads((results / "gradient_ratio.json").read_text())
    for kind, label in (("untrained", ""), ("trained", ", trained alone")):
        for method, scores in measured[kind].items():
            paper, evidence = scores["positive"], scores["evidence, signed"]
            cells = [paper["contrastive agreement"], paper["attention agreement"], evidence["attention agreement"]]
            assert f"| {method}{label} | {' | '.join(f'{cell:.2f}' for cell in cells)} |" in page
    losses = json.loads((results / "simclr_contrastive.json").read_text())
    for arm, text in (
        ("simclr", "(SimCLR alone: {}, {} and {})"),
        ("simclr_weight_3", "ends at {}, {} and {} in three seeds"),
        ("simclr_evidence_weight_3", "with evidence at {}, {} and {},"),
    ):
        assert text.format(*(f"{losses[arm][seed]:.1f}" for seed in "012")) in page


def test_evidence_gains_in_each_seed(repository):
    figures = committed(repository, "attention_methods")[1]
    for arm in (arm for arm in figures if arm.endswith("_evidence")):
        alone = figures[arm.removesuffix("_evidence")]
        for metric in ("linear/mixed_rand", "object_information", "knn"):
            assert all(found[metric] > alone[seed][metric] for seed, found in figures[arm].items()), (arm, metric)
    second = {
        m: round(100 * (figures[f"{m}_evidence"][1]["linear/mixed_rand"] - figures[m][1]["linear/mixed_rand"]), 1)
        for m in ("simclr", "byol", "simsiam", "mocov3", "densecl")
    }
    page = (repository / "docs" / "studies" / "attention_methods.md").read_text()
    assert f"from {min(second.values())} points of `linear/mixed_rand` (SimCLR, λ = 1) to {second['densecl']}" in page
    assert (min(second, key=second.get), max(second, key=second.get)) == ("simclr", "densecl")


def test_gains_of_one_seed_in_docs(repository):
    page = (repository / "docs" / "studies" / "attention_methods.md").read_text()
    figures = {arm: seeds[0] for arm, seeds in committed(repository, "attention_methods")[1].items()}
    methods = [arm.removesuffix("_evidence") for arm in figures if arm.endswith("_evidence")]
    assert len(methods) == 8

    def gains(name, metric="linear/mixed_rand"):
        return {m: round(100 * (figures[name.format(m)][metric] - figures[m][metric]), 1) for m in methods}

    evidence, paper = gains("{}_evidence"), gains("cast_{}")
    assert all(evidence[m] > paper[m] for m in methods)
    assert min(*gains("{}_evidence", "knn").values(), *gains("{}_evidence", "object_information").values()) > 0
    assert f"rises by {evidence['simclr']} points (SimCLR with λ = 1) to {evidence['mocov2']} (MoCo v2)" in page
    assert {evidence["simclr"], evidence["mocov2"]} == {min(evidence.values()), max(evidence.values())}
    simclr, vicreg = paper.pop("simclr"), paper.pop("vicreg")
    assert f"gains {min(paper.values())} to {max(paper.values())} points with" in page
    assert f"{simclr} with SimCLR, and nothing with VICReg" in page
    assert vicreg < 0


COMPARED = ("mocov2", "cast_mocov2", "evidence_signed")
"""The columns of the tables on the first pages."""


@pytest.mark.parametrize("page", ["README.md", "docs/does_it_work.md"])
def test_tables_of_first_pages(repository, page):
    rows = [
        ("attention_scenes", "linear/mixed_rand"),
        ("attention_scenes", "object_information"),
        ("attention_photographs", "voc07/mAP"),
        ("attention_photographs", "grounding/pretext/pointing"),
        ("attention_photographs", "grounding/features/pointing"),
    ]
    if page == "README.md":
        del rows[3]
    lines = (repository / page).read_text().splitlines()
    assert [line.strip("| ").split(" | ")[1:] for line in lines if line.startswith("|") and "±" in line] == [
        [str(estimates(committed(repository, study)[1][arm], column)) for arm in COMPARED] for study, column in rows
    ]


def test_recommended_experiment_is_the_one_measured(repository):
    """The column of evidence_signed is the experiment that README recommends, as it composes today."""
    with initialize_config_module("castlit.conf", version_base="1.3"):
        recommended, measured = (
            compose("train", words, return_hydra_config=False)
            for words in (
                ["+experiment=cast_mocov2_evidence"],
                committed(repository, "attention_scenes")[3]["arms"]["evidence_signed"],
            )
        )
    assert recommended.attention == measured.attention
    assert "+experiment=cast_mocov2_evidence" in (repository / "README.md").read_text()


def test_times_of_a_step_in_readme(repository):
    row = json.loads((repository / "benchmarks" / "results" / "step_resnet18_64px.json").read_text())
    text = " ".join((repository / "README.md").read_text().split())
    for name in ("cast", "cast_masked_features"):
        ratio, (low, high) = row["ratio_to_moco"][name], row["ratio_to_moco_interval"][name]
        assert f"{ratio:.2f} ({low:.2f} to {high:.2f})" in text


# In docs/data.md: row → the implementation; for other libraries, the variant of castlit that is compared with it.
VIEWS = {
    "PIL and torchvision as in MoCo's official code, masks": ("pil", "cpu"),
    "torchvision v2, masks": ("torchvision_v2", "cpu"),
    "albumentations, masks": ("albumentations_masks", "cpu"),
    "albumentations, no masks": ("albumentations", "cpu_without_masks"),
    "lightly, no masks": ("lightly", "cpu_without_masks"),
    "castlit, normalised here": ("cpu", None),
    "castlit, normalised here, no masks": ("cpu_without_masks", None),
    "castlit, bytes to the accelerator (`data.photometric=cpu`)": ("bytes", None),
    "castlit, colours on the accelerator too (its default on a GPU)": ("device", None),
    "castlit, crops by albumentations pipelines (`views=albumentations`)": ("views_albumentations", None),
}


def test_speed_of_views_in_docs(repository):
    page = (repository / "docs" / "data.md").read_text().splitlines()
    table = [line.strip("| ").split(" | ") for line in page if line.startswith("| ")]
    rows = {name: cells for name, *cells in table if name in VIEWS}
    assert set(rows) == set(VIEWS)
    for column, file in enumerate(("data_voc_350x256", "data_640x480")):
        row = json.loads((repository / "benchmarks" / "results" / f"{file}.json").read_text())
        for name, (what, castlit) in VIEWS.items():
            speed, *ratio = re.findall(r"[\d.]+", rows[name][column])
            assert abs(float(speed) - row["images_per_s"][what]) <= 0.5, (name, file)
            if castlit is not None:
                median, interval = row[f"ratio_to_{what}"][castlit], row[f"ratio_to_{what}_interval"][castlit]
                for shown, measured in zip(ratio, (median, *interval), strict=True):
                    assert abs(float(shown) - measured) <= 0.0501, (name, file)


# In docs/masks.md: row → its name in the results; set → a table's title.
SALIENCY = {
    "a Gaussian in the centre": "centre_gaussian",
    "RBD": "rbd",
    "DSR": "dsr",
    "MC": "mc",
    "HS": "hs",
    "`fast`": "fast",
    "`fused`": "fused",
}
SALIENCY_SETS = {
    "300 photographs of ECSSD": ("saliency_methods.json", "ecssd_dev"),
    "466 of COCO, all objects": ("saliency_methods.json", "coco_small"),
    "466 of VOC, its 20 classes": ("saliency_methods_voc_466.json", "voc_small"),
}


def saliency(repository, file, name, method, metric):
    """A metric as means with half the width of their 95 % intervals."""
    found = json.loads((repository / "benchmarks" / "results" / file).read_text())["sets"][name]
    low, high = found["intervals"][method][metric]
    return found["results"][method][metric], (high - low) / 2


@pytest.mark.parametrize("title", SALIENCY_SETS)
def test_saliency_methods_in_docs(repository, title):
    page = (repository / "docs" / "masks.md").read_text()
    lines = page[page.index(f"| {title} |") :].splitlines()[2 : 2 + len(SALIENCY)]
    rows = {name: cells for name, *cells in (line.strip("| ").split(" | ") for line in lines)}
    assert set(rows) == set(SALIENCY)
    for name, cells in rows.items():
        for cell, metric in zip(cells, ("max_f_of_means", "mae", "iou"), strict=True):
            before, arrow, now = cell.rpartition(" → ")
            file, images = SALIENCY_SETS[title]
            measured = saliency(repository, file, images, SALIENCY[name], metric)
            shown = [float(number) for number in now.split(" ± ")]
            if arrow:
                shown.append(float(before))
                measured += saliency(repository, "saliency_methods_0.2.json", images, SALIENCY[name], metric)[:1]
            for number, wanted in zip(shown, measured, strict=True):
                assert abs(number - wanted) <= 0.00051, (name, metric)


def test_saliency_ablations_in_docs(repository):
    rows = json.loads((repository / "benchmarks" / "results" / "saliency_ablations.json").read_text())["methods"]
    page = (repository / "docs" / "masks.md").read_text()
    lines = itertools.takewhile(str.strip, page[page.index("| changed | max F") :].splitlines()[2:])
    shown = {name: cells for name, *cells in (line.strip("| ").split(" | ") for line in lines)}
    titles = {method: name for name, method in SALIENCY.items()}
    measured = {}
    for method, (unchanged, *changed) in ((method, found.items()) for method, found in rows.items()):
        for name, found in changed:
            differences = [found[metric][0] - unchanged[1][metric][0] for metric in ("max_f_of_means", "mae", "iou")]
            measured[f"{titles[method]}: {name}"] = [f"{difference:+.3f}" for difference in differences]
    assert shown == measured


def test_saliency_methods_in_readme(repository):
    text = " ".join((repository / "README.md").read_text().split())
    for method in ("fast", "centre_gaussian"):
        mean, half = saliency(repository, "saliency_methods.json", "ecssd_dev", method, "iou")
        assert f"{100 * mean:.1f} ± {100 * half:.1f} %" in text


def test_intervals_in_text(repository):
    """Every ``a ± b`` outside of tables is a mean, or a difference of two configurations, of a committed study."""
    untrained = json.loads((repository / "benchmarks" / "results" / "untrained_on_voc.json").read_text())["mAP"]
    known = {str(estimate([value / 100 for value in untrained.values()]))}
    for name in STUDIES:
        study, metrics, _, _ = committed(repository, name)
        for column in study.columns:
            found = [estimates(seeds, column) for seeds in metrics.values()]
            found += [difference(a, b, column) for a, b in itertools.permutations(metrics.values(), 2)]
            known |= {str(value) for value in found}
    for method in ("fast", "centre_gaussian"):
        mean, half = saliency(repository, "saliency_methods.json", "ecssd_dev", method, "iou")
        known.add(f"{100 * mean:.1f} ± {100 * half:.1f}")
    studies = [repository / "docs" / "studies" / f"{page}.md" for page in PAGES.values()]
    for path in (repository / "docs" / "does_it_work.md", repository / "README.md", *studies):
        text = " ".join(line for line in path.read_text().splitlines() if not line.startswith("|"))
        for number in re.findall(r"-?\d+\.\d ± \d+\.\d", text):
            assert number in known, f"{path.name}: {number}"


IDEAS = {
    "`evidence`": "evidence",
    "the background's key subtracted": "background",
    "hard negatives subtracted": "hard_negatives",
    "the CAM at `layer3`": "layer3",
    "the CAM at both layers": "both_layers",
    "weight from 6 to 0": "falling",
    "weight from 0 to 6": "rising",
}


def test_ideas_in_docs(repository):
    data = json.loads((repository / "benchmarks" / "results" / "study_attention_ideas.json").read_text())
    config = yaml.safe_load((repository / "benchmarks" / "study" / "attention_ideas.yaml").read_text())
    assert data["arms"] == {arm: [*config["base"], *words] for arm, words in config["arms"].items()}
    page = (repository / "docs" / "what_the_cam_explains.md").read_text()
    shown = {name: cells for name, *cells in (line.strip("| ").split(" | ") for line in page.splitlines())}
    for name, arm in IDEAS.items():
        (found,) = data["figures"][arm].values()
        metrics = ("linear/mixed_rand", "object_information", "knn")
        assert shown[name][:3] == [f"{100 * found[metric]:.1f}" for metric in metrics], name


def test_objects_on_black_in_docs(repository):
    runs = json.loads((repository / "benchmarks" / "results" / "objects_on_black.json").read_text())["arms"]

    def mean(name, metric):
        return sum(row[metric] for row in runs[name].values()) / len(runs[name])

    page = (repository / "docs" / "studies" / "scenes.md").read_text()
    for name in ("mocov2", "cast_mocov2"):
        assert f"{mean(name, 'shift in standard deviations'):.1f}" in page
        for metric in ("probe, features brought to the training's mean and spread", "probe trained on black"):
            assert f"{100 * mean(name, metric):.1f} %" in page


def test_saliency_channel_in_docs(repository):
    measured = json.loads((repository / "benchmarks" / "results" / "saliency_channel.json").read_text())
    page = (repository / "docs" / "what_the_cam_explains.md").read_text()
    plain, guided = (measured["networks"][name] for name in ("simclr", "simclr_evidence_weight_3"))

    columns = ["object_information", "object_information without", "object_information without others"]
    for label, rows in (("SimCLR", plain), ("SimCLR, evidence, λ = 3", guided)):
        cells = [str(estimate([row[column] for row in rows])) for column in ("auc", *columns)]
        assert f"| {label} | {' | '.join(cells)} |" in page
        assert str(estimate([row["auc without"] for row in rows])) in page
    gains = [str(estimate([b[column] - a[column] for a, b in zip(plain, guided, strict=True)])) for column in columns]
    assert f"| gain per seed | | {' | '.join(gains)} |" in page
    assert f"after {measured['directions']} such directions" in page


def test_attention_losses_of_tiny100_in_docs(repository):
    measured = json.loads((repository / "benchmarks" / "results" / "tiny100_attention.json").read_text())
    paper, evidence = (measured[arm]["0"] for arm in ("cast_mocov2", "evidence"))
    page = (repository / "docs" / "studies" / "attention_tiny100.md").read_text()
    assert f"rises from {paper[1]:.2f} after two epochs to {paper[-1]:.2f}" in page
    assert f"with `evidence` it falls to {evidence[-1]:.2f}" in page


def test_momentum_lag_in_docs(repository):
    runs = json.loads((repository / "benchmarks" / "results" / "momentum_lag.json").read_text())["runs"]
    page = (repository / "docs" / "studies" / "photographs.md").read_text()
    constant, decayed = runs["lag/constant_rate"], runs["studies/ablations/runs/lambda_1/seed_2"]
    for keys in ("momentum encoder", "no lag"):
        assert f"{constant[keys]['attention loss']:.2f}" in page
        assert f"{constant[keys]['common']:.2f}" in page
        assert f"{decayed[keys]['attention loss']:.2f}" in page


def test_speed_of_masks_in_docs(repository):
    results = repository / "benchmarks" / "results"
    now, before = (
        json.loads((results / f"make_masks_640x480{version}.json").read_text())["qualities"] for version in ("", "_0.2")
    )
    page = " ".join((repository / "docs" / "masks.md").read_text().split())
    walk = (repository / "docs" / "coco_to_detector.md").read_text()
    for quality, unit in (("fast", "masks a second"), ("fused", "with `fused`")):
        rate, hours = now[quality]["images_per_s_and_core"], now[quality]["coco_train_core_hours"]
        assert f"{rate:.1f} {unit}" in page
        assert f"{hours:.1f} core-hours" in page
        assert f"| `{quality}` | {rate:.1f} | {hours:.1f} core-hours |" in walk
    old = " and ".join(f"{before[quality]['images_per_s_and_core']:.1f}" for quality in ("fast", "fused"))
    assert f"castlit 0.2 made {old}" in page
