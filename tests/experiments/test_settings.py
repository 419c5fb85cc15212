"""What differs between runs: what was typed, and nothing that follows from it."""

import pytest

from castlit.experiments.settings import differing, read_settings
from castlit.utils.validation import InputError


def keys(*folders):
    return differing([read_settings(folder) for folder in folders])


def test_a_swept_key_and_not_what_refers_to_it(made_run, tmp_path):
    folders = [made_run(tmp_path / str(i), ["attention.weight"], attention__weight=i) for i in range(3)]
    assert keys(*folders) == ["attention.weight"]


def test_equal_settings_have_no_difference(made_run, tmp_path):
    assert keys(made_run(tmp_path / "a"), made_run(tmp_path / "b")) == []
    assert keys(made_run(tmp_path / "a")) == []


def test_a_key_typed_for_one_run_is_compared_with_the_others_own_value(made_run, tmp_path):
    folders = [made_run(tmp_path / "a"), made_run(tmp_path / "b", ["optimizer.lr"], optimizer__lr=0.1)]
    assert keys(*folders) == ["optimizer.lr"]
    assert [read_settings(folder).get("optimizer.lr") for folder in folders] == [0.06, 0.1]
    same = made_run(tmp_path / "c", ["optimizer.lr"], optimizer__lr=0.06)
    assert keys(folders[0], same) == []


def test_what_comes_with_an_option_is_left_out_and_a_seed_is_not(made_run, tmp_path):
    cast = {"experiment": "cast_mocov2", "attention": "cast"}
    plain = {"experiment": "mocov2", "attention": "none"}
    folders = [
        made_run(tmp_path / f"{name}{seed}", ["experiment", "seed"], choices=choices, name=name, seed=seed)
        for name, choices in (("cast", cast), ("plain", plain))
        for seed in (0, 1)
    ]
    assert keys(*folders) == ["experiment", "seed"]
    # A choice that the experiment does not tell is a difference of its own.
    odd = made_run(tmp_path / "odd", ["experiment"], choices={**cast, "attention": "none"}, name="cast")
    assert keys(*folders, odd) == ["experiment", "seed", "attention"]


def test_a_difference_that_nobody_typed_is_told(made_run, tmp_path):
    older = made_run(tmp_path / "a", ["attention.weight"], attention__weight=1, crop__min_coverage=0.2)
    newer = made_run(tmp_path / "b", ["attention.weight"], attention__weight=2, crop__min_coverage=0.3)
    assert keys(older, newer) == ["attention.weight", "crop.min_coverage"]


def test_a_budget_counts_where_it_is_used(made_run, tmp_path):
    folders = [made_run(tmp_path / "a", budget__lr=0.1), made_run(tmp_path / "b", budget__lr=0.2)]
    assert keys(*folders) == ["optimizer.lr"]
    unused = [made_run(tmp_path / str(i), ["optimizer.lr"], budget__lr=i, optimizer__lr=0.1) for i in (1, 2)]
    assert keys(*unused) == []


def test_one_and_one_point_zero_are_the_same(made_run, tmp_path):
    assert keys(made_run(tmp_path / "a", attention__weight=1), made_run(tmp_path / "b", attention__weight=1.0)) == []
    assert keys(made_run(tmp_path / "a", compile=True), made_run(tmp_path / "b", compile=1)) == ["compile"]


def test_a_part_that_is_left_out_is_one_difference(made_run, tmp_path):
    with_it = made_run(tmp_path / "a", callbacks__panel__count=8, callbacks__panel__kind="x")
    without = made_run(tmp_path / "b", ["callbacks.panel"], callbacks__panel=None)
    assert keys(with_it, without) == ["callbacks.panel"]


def test_runs_that_hydra_left_nothing_of(made_run, tmp_path):
    folders = [made_run(tmp_path / str(i), attention__weight=i) for i in range(2)]
    for folder in folders:
        for file in (folder / ".hydra").iterdir():
            file.unlink()
    assert keys(*folders) == ["attention.weight"]


def test_a_run_that_failed_before_it_wrote_its_config(made_run, tmp_path):
    good = made_run(tmp_path / "a", ["optimizer.lr"], optimizer__lr=0.1)
    failed = made_run(tmp_path / "b")
    (failed / "config.yaml").unlink()
    assert keys(good, failed) == ["optimizer.lr"]
    assert read_settings(failed).get("optimizer.lr") == 0.06


def test_a_broken_config_is_named(made_run, tmp_path):
    folder = made_run(tmp_path / "a")
    (folder / "config.yaml").write_text("a: [1")
    with pytest.raises(InputError, match=r"config\.yaml is no YAML"):
        read_settings(folder)
