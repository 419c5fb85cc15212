"""The figures that README and documentation show are those of the committed studies, to the last digit."""

import json

import pytest
import yaml

from castlit.experiments.estimates import difference, estimate, estimates
from castlit.experiments.study_report import Study, differences, table

# What was given for what their configs leave open, and the overrides of all their runs.
STUDIES = {
    "cast": ({}, []),
    "ablations": ({"${output}": "studies/ablations"}, []),
    "photographs": (
        {"${photos}": "photos", "${masks}": "photo_masks"},
        [
            *("trainer.max_epochs=40", "trainer.check_val_every_n_epoch=10", "data.val_count=128"),
            *("method.queue_size=1024", "optimizer.lr=0.06"),
        ],
    ),
}

CAST_TO_1, TO_1 = "cast_mocov2_momentum_to_1", "mocov2_momentum_to_1"


def flowing(path):
    """A text without its line breaks, which may fall into what it says."""
    return " ".join(path.read_text().split())


def committed(repository, name):
    """A study and its figures, as castlit.study wrote them down."""
    data = json.loads((repository / "benchmarks" / "results" / f"study_{name}.json").read_text())
    config = yaml.safe_load((repository / "conf" / "study" / f"{name}.yaml").read_text())
    figures = {arm: {int(seed): found for seed, found in seeds.items()} for arm, seeds in data["figures"].items()}
    return Study(data["title"], config["about"], config["columns"], data["pairs"]), figures, data, config


@pytest.mark.parametrize("name", STUDIES)
def test_the_page_has_the_studys_tables(repository, name):
    study, figures, data, config = committed(repository, name)
    page = (repository / "docs" / "does_it_work.md").read_text().splitlines()
    for _, rows in (table(study, figures), differences(study, figures)):
        for row in rows:
            assert f"| {' | '.join(row)} |" in page
    assert not data["failed"]
    given, overrides = STUDIES[name]
    for key, value in given.items():
        config = json.loads(json.dumps(config).replace(key, value))
    base = config.get("base", [])
    assert data["arms"] == {arm: [*base, *words, *overrides] for arm, words in config["arms"].items()}
    assert all(f'"{word}"' in "\n".join(page) for word in overrides), "a reader can repeat it"
    assert all(len(seeds) == len(figures[next(iter(figures))]) for seeds in figures.values()), "every run counts"


def test_the_readme_has_the_studys_figures(repository):
    _, figures, _, _ = committed(repository, "cast")
    columns = ["linear/mixed_rand", "linear/background_gap", "object_information", "knn", "pointing/mixed_rand"]
    lines = (repository / "README.md").read_text().splitlines()
    shown = set(figures) - {"cast_mocov2_masked_features"}
    for arm in shown:
        cells = " | ".join(str(estimates(figures[arm], column)) for column in columns)
        assert f"| {f'**{arm}**' if arm.startswith('cast') else arm} | {cells} |" in lines


@pytest.mark.parametrize(
    ("name", "pair", "figure", "told"),
    [
        ("cast", ("cast_mocov2", "mocov2_longer"), "linear/mixed_rand", "by 25.8 ± 3.8 points"),
        ("cast", ("cast_byol", "byol"), "linear/mixed_rand", "13.4 ± 4.3 points of `linear/mixed_rand`"),
        ("cast", ("cast_byol", "byol"), "object_information", "23.2 ± 4.3 of `object_information`"),
        ("cast", ("cast_simclr", "simclr"), "object_information", "12.8 ± 2.7 of `object_information`"),
        ("cast", ("cast_simclr", "simclr"), "linear/mixed_rand", "5.2 ± 4.8 of `linear/mixed_rand`"),
        (
            "cast",
            ("cast_mocov2_masked_features", "cast_mocov2"),
            "object_information",
            "`object_information` is 3.5 ± 3.1 points",
        ),
        ("ablations", ("cast_mocov2", "lambda_0"), "linear/mixed_rand", "25.4 ± 3.4 points of `linear/mixed_rand`"),
        ("ablations", ("lambda_0.5", "cast_mocov2"), "knn", "`knn` is 3.2 ± 1.8 points better at 0.5 than at 3"),
        ("ablations", ("cast_mocov2", "lambda_0.5"), "object_information", "0.5 is 4.2 ± 3.0 points of `object_info"),
        ("ablations", ("cast_mocov2", "lambda_10"), "linear/mixed_rand", "7.7 ± 5.0 points of `linear/mixed_rand`"),
        ("ablations", ("phi_0", "cast_mocov2"), "linear/mixed_rand", "-3.2 ± 3.3 of `linear/mixed_rand`"),
        ("ablations", ("phi_0.6", "phi_0"), "linear/mixed_rand", "two more seeds made it 3.9 ± 6.3"),
        (
            "ablations",
            ("masks_deepusps", "cast_mocov2"),
            "object_information",
            "(+0.3 ± 2.8 of `object_information`)",
        ),
        ("ablations", ("cast_mocov2", "masks_rbd"), "object_information", "without any training, loses 4.4 ± 1.7"),
        ("ablations", ("masks_centre_box", "cast_mocov2"), "object_information", "-21.0 ± 5.9 in the centre"),
        ("ablations", ("masks_random_box", "cast_mocov2"), "object_information", "-23.0 ± 3.1 anywhere"),
        ("ablations", ("masks_random_box", "lambda_0"), "object_information", "over no loss at all is 10.4 ± 5.9"),
        ("ablations", ("plain_key", "cast_mocov2"), "object_information", "(-3.2 ± 2.8 of `object_information`)"),
        ("ablations", ("masked_features", "plain_key"), "object_information", "the plain key by 6.7 ± 2.3"),
        ("ablations", ("masked_features", "cast_mocov2"), "object_information", "the masked image by 3.5 ± 3.1"),
        ("ablations", ("common_region", "cast_mocov2"), "object_information", "+2.6 ± 4.6"),
        ("ablations", ("cast_mocov2", "layer3"), "object_information", "25.8 ± 8.2 points of `object_information`"),
        ("ablations", ("cast_mocov2", "contrastive_score"), "linear/mixed_rand", "loses 6.7 ± 3.0 points of `linear"),
        (
            "ablations",
            ("contrastive_score", "cast_mocov2"),
            "object_information",
            "of `object_information` it is -4.5 ± 4.8",
        ),
        ("photographs", ("cast_mocov2", "mocov2"), "voc07/mAP", "CAST is 2.0 ± 1.7 points of mAP above MoCo"),
        ("photographs", (CAST_TO_1, TO_1), "voc07/mAP", "0.8 ± 1.3 above MoCo with the same"),
        ("photographs", ("cast_mocov2", "mocov2"), "grounding/pretext/pointing", "gains 9.6 ± 4.9 points"),
        ("photographs", (CAST_TO_1, TO_1), "grounding/pretext/pointing", "and 23.0 ± 3.4 with the momentum to 1"),
        (
            "photographs",
            (CAST_TO_1, "cast_mocov2"),
            "grounding/pretext/pointing",
            "16.9 ± 4.0 points above CAST without",
        ),
        ("photographs", (CAST_TO_1, "cast_mocov2"), "voc07/mAP", "at the same mAP: -0.5 ± 0.7"),
        ("photographs", ("cast_mocov2", "mocov2"), "grounding/features/pointing", "-23.5 ± 3.5 points of `features"),
        ("photographs", ("mocov2_crop", "mocov2"), "voc07/mAP", "nothing here either: -0.3 ± 1.6 of mAP"),
    ],
)
def test_what_the_text_says_is_in_the_figures(repository, name, pair, figure, told):
    _, figures, _, _ = committed(repository, name)
    assert told in flowing(repository / "docs" / "does_it_work.md")
    assert str(difference(figures[pair[0]], figures[pair[1]], figure)) in told


def test_the_readme_has_the_figures_on_photographs(repository):
    _, figures, _, _ = committed(repository, "photographs")
    told = flowing(repository / "README.md")

    def shown(figure, arm):
        return str(estimates(figures[arm], figure))

    pointing = [shown("grounding/pretext/pointing", arm) for arm in ("cast_mocov2", "mocov2", CAST_TO_1, TO_1)]
    assert "in {} % with CAST and {} % with MoCo ({} and {} with".format(*pointing) in told
    classes = [shown("voc07/mAP", arm) for arm in ("cast_mocov2", "mocov2")]
    assert "with {} and {} mAP".format(*classes) in told


def test_what_the_text_says_of_objects_on_black(repository):
    arms = json.loads((repository / "benchmarks" / "results" / "objects_on_black.json").read_text())["arms"]

    def mean(arm, figure):
        return sum(row[figure] for row in arms[arm].values()) / len(arms[arm])

    page = (repository / "docs" / "does_it_work.md").read_text()
    moco, cast = (mean(arm, "shift in standard deviations") for arm in ("mocov2", "cast_mocov2"))
    assert f"{moco:.1f} standard deviations for MoCo and {cast:.1f} for CAST" in page
    brought, black = "probe, features brought to the training's mean and spread", "probe trained on black"
    for figure, words in ((brought, "{:.1f} % with MoCo and {:.1f} % with CAST"), (black, "{:.1f} % and {:.1f} %")):
        assert words.format(100 * mean("mocov2", figure), 100 * mean("cast_mocov2", figure)) in page


def test_what_the_text_says_of_untrained_networks_and_of_the_lag(repository):
    results = repository / "benchmarks" / "results"
    page = flowing(repository / "docs" / "does_it_work.md")
    untrained = json.loads((results / "untrained_on_voc.json").read_text())["mAP"]
    assert f"an untrained network ({estimate([value / 100 for value in untrained.values()])}, the same seeds)" in page
    runs = json.loads((results / "momentum_lag.json").read_text())["runs"]
    lag, none = (runs["lag/constant_rate"][keys] for keys in ("momentum encoder", "no lag"))
    told = "is {:.2f} with the momentum encoder's keys, and {:.2f} without its lag"
    assert told.format(lag["attention loss"], none["attention loss"]) in page
    assert f"has a length of {lag['common']:.2f}; without lag {none['common']:.2f}" in page
    lag, none = (
        runs["studies/ablations/runs/lambda_1/seed_2"][keys]["attention loss"]
        for keys in ("momentum encoder", "no lag")
    )
    assert f"{lag:.2f} at the end, {none:.2f} without the rest of the lag" in page
