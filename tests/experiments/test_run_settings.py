"""The settings that differ between runs, without those that follow from others."""

import pytest

from castlit.experiments.run_settings import differing, read_settings
from castlit.utils.validation import InputError


def keys(*folders):
    return differing([read_settings(folder) for folder in folders])


def test_references_are_left_out(made_run, tmp_path):
    folders = [made_run(tmp_path / str(i), ["attention.weight"], attention__weight=i) for i in range(3)]
    assert keys(*folders) == ["attention.weight"]


def test_equal_settings(made_run, tmp_path):
    assert keys(made_run(tmp_path / "a"), made_run(tmp_path / "b")) == []
    assert keys(made_run(tmp_path / "a")) == []


def test_key_typed_for_one_run_only(made_run, tmp_path):
    folders = [made_run(tmp_path / "a"), made_run(tmp_path / "b", ["optimizer.lr"], optimizer__lr=0.1)]
    assert keys(*folders) == ["optimizer.lr"]
    assert [read_settings(folder).get("optimizer.lr") for folder in folders] == [0.06, 0.1]
    same = made_run(tmp_path / "c", ["optimizer.lr"], optimizer__lr=0.06)
    assert keys(folders[0], same) == []


def test_consequences_of_options_are_left_out(made_run, tmp_path):
    cast = {"experiment": "cast_mocov2", "attention": "cast"}
    plain = {"experiment": "mocov2", "attention": "none"}
    folders = [
        made_run(tmp_path / f"{name}{seed}", ["experiment", "seed"], choices=choices, name=name, seed=seed)
        for name, choices in (("cast", cast), ("plain", plain))
        for seed in (0, 1)
    ]
    assert keys(*folders) == ["experiment", "seed"]
    # An option that the experiment does not determine is listed.
    odd = made_run(tmp_path / "odd", ["experiment"], choices={**cast, "attention": "none"}, name="cast")
    assert keys(*folders, odd) == ["experiment", "seed", "attention"]


def test_untyped_difference_is_listed(made_run, tmp_path):
    older = made_run(tmp_path / "a", ["attention.weight"], attention__weight=1, crop__min_coverage=0.2)
    newer = made_run(tmp_path / "b", ["attention.weight"], attention__weight=2, crop__min_coverage=0.3)
    assert keys(older, newer) == ["attention.weight", "crop.min_coverage"]


def test_budget_counts_where_it_is_used(made_run, tmp_path):
    folders = [made_run(tmp_path / "a", budget__lr=0.1), made_run(tmp_path / "b", budget__lr=0.2)]
    assert keys(*folders) == ["optimizer.lr"]
    unused = [made_run(tmp_path / str(i), ["optimizer.lr"], budget__lr=i, optimizer__lr=0.1) for i in (1, 2)]
    assert keys(*unused) == []


def test_budget_of_older_runs(made_run, tmp_path):
    """castlit 0.2 had no group of budgets: the data chose them."""
    older = made_run(tmp_path / "a")
    newer = made_run(tmp_path / "b", choices={"data": "scenes", "budget": "scenes"})
    assert keys(older, newer) == []
    photographs = made_run(tmp_path / "c", choices={"data": "folder"})
    small = made_run(tmp_path / "d", ["budget"], choices={"data": "folder", "budget": "laptop"})
    assert keys(photographs, small) == ["budget"]
    assert keys(older, photographs) == ["data"], "which determines the budget"


def test_equal_numbers(made_run, tmp_path):
    assert keys(made_run(tmp_path / "a", attention__weight=1), made_run(tmp_path / "b", attention__weight=1.0)) == []
    assert keys(made_run(tmp_path / "a", compile=True), made_run(tmp_path / "b", compile=1)) == ["compile"]


def test_removed_group_is_one_difference(made_run, tmp_path):
    with_it = made_run(tmp_path / "a", callbacks__panel__count=8, callbacks__panel__kind="x")
    without = made_run(tmp_path / "b", ["callbacks.panel"], callbacks__panel=None)
    assert keys(with_it, without) == ["callbacks.panel"]


def test_runs_without_hydra_files(made_run, tmp_path):
    folders = [made_run(tmp_path / str(i), attention__weight=i) for i in range(2)]
    for folder in folders:
        for file in (folder / ".hydra").iterdir():
            file.unlink()
    assert keys(*folders) == ["attention.weight"]


def test_run_without_config(made_run, tmp_path):
    good = made_run(tmp_path / "a", ["optimizer.lr"], optimizer__lr=0.1)
    failed = made_run(tmp_path / "b")
    (failed / "config.yaml").unlink()
    assert keys(good, failed) == ["optimizer.lr"]
    assert read_settings(failed).get("optimizer.lr") == 0.06


@pytest.mark.parametrize("content", ["a: [1", "a: &a [*a]", "a: " + "[" * 10_000])
def test_broken_config_is_named(made_run, tmp_path, content):
    folder = made_run(tmp_path / "a")
    (folder / "config.yaml").write_text(content)
    with pytest.raises(InputError, match=r"config\.yaml is not valid YAML"):
        read_settings(folder)


def test_resolvers_are_not_evaluated(made_run, tmp_path, monkeypatch):
    """A run that failed before it wrote its configuration: its references are resolved, the environment is not read."""
    monkeypatch.setenv("SECRET", "the reader's")
    run = made_run(
        tmp_path / "a",
        data__images="${oc.env:SECRET}",
        data__masks="/masks/${ oc.env:SECRET,none}/${name}",
        data__nested=["${oc.decode:${data.images}}", "${name}"],
        data__again="${data.images}",
        data__escaped=r"\${oc.env:SECRET} and \\${oc.env:SECRET}",
        data__resolver="oc.env",
        data__by_reference="${${data.resolver}:SECRET}",
        data__by_part="${oc.${.part}:SECRET}",
        data__part="env",
    )
    (run / "config.yaml").unlink()
    settings = read_settings(run)
    assert settings.get("optimizer.lr") == 0.06, "references are resolved"
    assert settings.get("data.images") == settings.get("data.again") == "${oc.env:SECRET}"
    assert settings.get("data.masks") == "/masks/${ oc.env:SECRET,none}/${name}"
    assert settings.get("data.nested") == ["${oc.decode:${data.images}}", "made"]
    assert settings.get("data.escaped") == r"\${oc.env:SECRET} and \\${oc.env:SECRET}"
    assert settings.get("data.by_reference") == "${${data.resolver}:SECRET}"
    assert settings.get("data.by_part") == "${oc.${.part}:SECRET}"
    assert "the reader's" not in str(settings)


@pytest.mark.parametrize("content", ["[1, 2]", "text", "3"])
@pytest.mark.parametrize("name", ["config.yaml", ".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml"])
def test_files_of_another_kind(made_run, tmp_path, name, content):
    run = made_run(tmp_path / "a")
    (run / name).write_text(content)
    if name.endswith("config.yaml"):
        with pytest.raises(InputError, match=r"config\.yaml is no configuration: remove it, or leave this run out"):
            read_settings(run)
    else:
        assert read_settings(run).get("seed") == 0
