"""``--help``: examples first, then this program's groups alone, then its keys."""

import importlib
import re
import sys

import pytest
from hydra import compose, initialize_config_module

from castlit.cli.config_dir import CONFIG_MODULE
from castlit.cli.help import ADDED, asks_for_help, chosen_groups, help_text

PROGRAMS = [
    *("train", "evaluate", "make_masks", "make_scenes", "make_shards", "export", "compare", "study"),
    *("bench_data", "bench_step", "bench_gpu"),
]


def shown_groups(text):
    """Group → its options, as a help lists them."""
    listed = re.search(r"^Groups.*\n((?: .*\n)*)", text, re.MULTILINE)
    entries = re.findall(r"^  (\+?\w+)= +((?:.*\n)(?: {9,}.*\n)*)", listed[1] if listed else "", re.MULTILINE)
    return {group: [each.strip() for each in options.split(",")] for group, options in entries}


def test_all_programs_are_here(repository):
    assert set(PROGRAMS) == {path.stem for path in (repository / "conf").glob("*.yaml")}


@pytest.mark.parametrize("name", PROGRAMS)
def test_its_own_groups_only(name):
    """Those that Hydra lets the user choose, with the defaults that it composes, and those added with a plus."""
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        config = compose(name, return_hydra_config=True)
    choices = {group: option for group, option in config.hydra.runtime.choices.items() if "hydra/" not in group}
    assert chosen_groups(name) == choices
    groups = shown_groups(help_text(name, []))
    assert set(groups) == {*choices, *(f"+{group}" for group in ADDED.get(name, ()))}
    for group, default in choices.items():
        assert f"{default}*" in groups[group]


@pytest.mark.parametrize(("name", "group"), [(name, group) for name, groups in ADDED.items() for group in groups])
def test_groups_with_a_plus_have_no_default(repository, name, group):
    assert group not in chosen_groups(name)
    options = shown_groups(help_text(name, []))[f"+{group}"]
    assert sorted(options) == sorted(path.stem for path in (repository / "conf" / group).glob("*.yaml"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_examples_first_then_groups_then_keys(repository, name):
    text = help_text(name, [])
    parts = [text.find(f"\n{part}") for part in ("Examples", "Groups", "Keys")]
    found = [place for place in parts if place >= 0]
    assert found == sorted(found)
    assert parts[0] >= 0
    assert parts[2] >= 0
    # All comments of the program's keys, and none of how it is started.
    own = (repository / "conf" / f"{name}.yaml").read_text().partition("\nhydra:")[0].partition("\n")[2]
    after_defaults = re.sub(r"^defaults:\n(?: .*\n|\n)*", "", own, flags=re.MULTILINE)
    for line in after_defaults.splitlines():
        if line.startswith("# "):
            assert line in text[parts[2] :]
    assert "app_name" not in text


def test_options_of_the_user(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "birds.yaml").write_text("")
    assert "birds" in shown_groups(help_text("train", ["--config-dir", str(tmp_path), "--help"]))["data"]
    assert "birds" not in shown_groups(help_text("train", ["--help"]))["data"]


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["+experiment=cast_mocov2", "--help"]])
def test_program_answers(words, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train", *words])
    importlib.import_module("castlit.train").main()
    assert capsys.readouterr().out == help_text("train", words) + "\n"
    assert not list(tmp_path.iterdir())


def test_other_words_ask_for_no_help():
    assert not asks_for_help(["--hydra-help"])
    assert not asks_for_help(["data.images=--help"])
