"""Paths as typed: what Hydra cannot parse, or would take for something else, is quoted; mistakes stay."""

import shlex

import pytest
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser

from castlit.cli.config_dir import CONFIG_MODULE
from castlit.cli.launch import in_one_folder
from castlit.cli.overrides import (
    paths_from_here,
    quote_path,
    quoted,
    refuse_expanded,
    refuse_truth_value,
    shell_override,
)
from castlit.utils.validation import InputError


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ("data.urls=/d/{000..099}.tar", "data.urls='/d/{000..099}.tar'"),
        ("data.urls={000..099}.tar", "data.urls='{000..099}.tar'"),
        ("data.urls=[/a/{0..1}.tar, /b.tar]", "data.urls=['/a/{0..1}.tar', /b.tar]"),
        ("data.urls=http://h/{a,b}.tar", "data.urls='http://h/{a,b}.tar'"),
        ("data.urls=pipe:curl -s http://h/{0..9}.tar", "data.urls='pipe:curl -s http://h/{0..9}.tar'"),
        ("data.urls=/a{0..1},/b{0..1}", "data.urls='/a{0..1}','/b{0..1}'"),
        ("data.urls=/it's/{0..1}.tar", r"data.urls='/it\'s/{0..1}.tar'"),
        ("data.urls=/my shards (1)", "data.urls='/my shards (1)'"),
        ("data.urls=[/a (1)/{0..1}.tar,/b (2).tar,/c.tar]", "data.urls=['/a (1)/{0..1}.tar','/b (2).tar',/c.tar]"),
        ("data.images=2007", "data.images='2007'"),
        ("+output=007", "+output='007'"),
        ("checkpoint=1.0", "checkpoint='1.0'"),
        ("data.images=1e5", "data.images='1e5'"),
        ("data.images=/home/jürgen/a (1)", "data.images='/home/jürgen/a (1)'"),
        ("data.images=[/ü,/b]", "data.images=['/ü',/b]"),
        ("data.images=photos (1)", "data.images='photos (1)'"),
        ("+hydra.run.dir=/it's=here", r"+hydra.run.dir='/it\'s=here'"),
        ("data.masks=~/masks&more", "data.masks='~/masks&more'"),
        ("data.masks=~", "data.masks='~'"),
        ("protocol.maps=/photo masks [1]", "protocol.maps='/photo masks [1]'"),
        ("protocol.maps={mine: /masks (1),other: /b}", "protocol.maps={mine:'/masks (1)',other: /b}"),
        ("protocol.maps={mine: /ü/{1,2}}", "protocol.maps={mine:'/ü/{1,2}'}"),
        ("logger.csv.save_dir=/runs [1]/a", "logger.csv.save_dir='/runs [1]/a'"),
        ("+logger.wandb.save_dir=runs (1)", "+logger.wandb.save_dir='runs (1)'"),
        ("my.own.key=/a#b;c", "my.own.key='/a#b;c'"),
        ("my.own.key=./a<b>", "my.own.key='./a<b>'"),
        ("hydra.searchpath=[file:///a (1),pkg://b]", "hydra.searchpath=['file:///a (1)',pkg://b]"),
        ("data.images=/a(1),/b(2)", "data.images='/a(1)','/b(2)'"),
        ("my.own.key=/a(1),b", "my.own.key='/a(1)',b"),
        ("data.images=/a (1)/${oc.env:HOME}", "data.images='/a (1)/${oc.env:HOME}'"),
        ("data.images=[2020] spring/a", "data.images='[2020] spring/a'"),
        ("a=/x/{1.tar", "a='/x/{1.tar'"),
        ("overrides=[a.b=2,c=[1,2], +d={e: 1}]", "overrides=['a.b=2','c=[1,2]','+d={e: 1}']"),
        ("overrides=[data.images=/it's here]", r"overrides=['data.images=/it\'s here']"),
        ("arms={one: [+experiment=a,b=2],two: []}", "arms={one:['+experiment=a','b=2'],two:[]}"),
        *((f"overrides={text}", f"overrides='{text}'") for text in ("a=1", "[a=1")),  # castlit.study wants a list
        ("+arms.one=[+experiment=a]", "+arms.one=['+experiment=a']"),
        ("prepare=[[castlit.make_scenes,output=scenes]]", "prepare=[[castlit.make_scenes,'output=scenes']]"),
    ],
)
def test_paths_are_quoted(typed, given):
    assert quote_path(typed) == given
    assert quote_path(given) == given


@pytest.mark.parametrize(
    "typed",
    [
        "data=shards",
        "-m",
        "--help",
        "--config-dir=/a (1)",
        "a={b:1,c:2}",
        "a={b:{c:1,d:2}}",
        "a={b=1,c=2}",
        "a=[{b:1}]",
        "a=[1,2",
        "overrides=['a=1',\"b=2\"]",
        "protocol.maps={mine: /a (1), b}",
        "data.size=32",
        "data.images=/photos, with commas",
        "data.images=/a,/b",
        "data.images=/a/${oc.env:HOME}/b",
        "data.masks=null",
        "callbacks.checkpoint=false",
        "data.masks=self",
        "data.masks='/a (1)'",
        "data.images='/a (1)','/b (2)'",
        "protocol.maps={mine: '/a, (1)'}",
        "attention.weight=0,1,3",
        "callbacks=null",
        "~callbacks",
        "name=ü",
    ],
)
def test_other_words_are_unchanged(typed):
    assert quote_path(typed) == typed
    refuse_expanded([typed, typed])


NAMES = ("2020, spring", "[a]", "{a}", "a,b", "null", "true", "a b", "ends ", "back\\slash", "a'b", "[1,2]", "plain")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["data.images", "protocol.maps", "my.own.key"])
def test_what_exists_is_a_path(tmp_path, monkeypatch, name, key):
    """A folder of this name is meant, and no sweep, list or dictionary."""
    (tmp_path / "in" / name).mkdir(parents=True)
    typed = quote_path(f"{key}={tmp_path}/in/{name}")
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        config = compose("export", [f"+{typed}"])
    for part in key.split("."):
        config = config[part]
    assert config == f"{tmp_path}/in/{name}"
    # What is to be made in it, too, if Hydra would split the name.
    if any(sign in name for sign in ",'"):
        word = f"{key}={tmp_path}/in/{name}/new/{{0..1}}.tar"
        assert quote_path(word) == f"{key}={quoted(f'{tmp_path}/in/{name}/new/{{0..1}}.tar')}"
    # Below the current folder, too, where the key is that of a path; but null, true and numbers keep their meaning.
    monkeypatch.chdir(tmp_path / "in")
    if key != "my.own.key" and name not in ("null", "true"):
        with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            config = compose("export", [f"+{quote_path(f'{key}={name}')}"])
        assert config[key.split(".")[0]][key.split(".")[1]] == name
    assert quote_path("data.masks=null") == "data.masks=null"


@pytest.mark.parametrize("name", [*NAMES, "2020", "it's (1)", "ü"])
def test_one_folder_of_many_processes(monkeypatch, name):
    """The folder that the user gives stays the same when it goes from one process to the others."""
    for key, value in {"NTASKS": "2", "PROCID": "1", "JOB_ID": "7", "JOB_NAME": "train"}.items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    (folder, *_) = in_one_folder([f"hydra.run.dir={quoted(f'/runs/{name}')}"])
    assert OverridesParser.create().parse_override(folder).value() == f"/runs/{name}"


@pytest.mark.parametrize("name", ["plain", "a b", "2020, spring (1)", "it's", "{0..1}.tar", "ü", "a$b", "a=b", "a\\b"])
def test_recommended_commands(tmp_path, name):
    """What programs print is read as it was meant, after the shell and Hydra."""
    (word,) = shlex.split(shell_override("data.images", f"/x/{name}"))
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        assert compose("export", [f"+{quote_path(word)}"]).data.images == f"/x/{name}"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("data.images=photos", "data.images={here}/photos"),
        ("data.images='photos'", "data.images={here}/photos"),
        ("checkpoint=run/last.ckpt", "checkpoint={here}/run/last.ckpt"),
        ("+data.val_images=photos", "+data.val_images={here}/photos"),
        ("data.urls=photos/{0..3}.tar", "data.urls={here}/photos/{0..3}.tar"),
        *((same, same) for same in ("data.images=other", "data.images=/photos", "data.urls=http://host/a.tar")),
        *(
            (same, same)
            for same in ("output=photos", "hydra.run.dir=photos", "resume=last", "data.masks=self", "data=photos")
        ),
        ("data.cache=photos", "data.cache=photos"),
    ],
)
def test_paths_are_those_of_the_folder_where_they_were_typed(tmp_path, monkeypatch, typed, expected):
    for name in ("photos", "run", "last", "self"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    assert paths_from_here([typed]) == [typed]
    assert paths_from_here([typed, "hydra.job.chdir=True"])[0] == expected.replace("{here}", str(tmp_path))


@pytest.mark.parametrize("typed", ["data.cache=false", "data.images=True", "+output=FALSE", "checkpoint=true"])
def test_truth_values_are_no_paths(typed):
    """As texts they would become folders of these names."""
    assert quote_path(typed) == typed
    with pytest.raises(InputError, match=rf"^{typed.replace('+', '.')}: .* is a path: give one \(\./"):
        refuse_truth_value(typed)


@pytest.mark.parametrize("typed", ["data.cache=null", "callbacks.checkpoint=false", "data.x=true", "cache", "-m"])
def test_other_truth_values(typed):
    refuse_truth_value(typed)
