"""Two runs that start in the same second have a folder each."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from omegaconf import OmegaConf

from castlit.cli.own_folder import own_folder

SMALL = ["data.train_count=16", "data.val_count=8", "data.batch_size=8", "data.size=32", "data.scene_size=36"]
SMALL += ["data.workers=0", "method.queue_size=16", "trainer.max_epochs=1"]
SAME = "${now:%Y%%S}"  # the same for all runs of a test


def configuration(folder):
    hydra = {"run": {"dir": folder}, "overrides": {"hydra": []}}
    config = OmegaConf.create({"hydra": hydra})
    OmegaConf.set_readonly(config.hydra, True)  # as Hydra does
    return config


def seeds(folders):
    assert all((folder / "summary.json").is_file() for folder in folders), "all have run"
    return [OmegaConf.load(folder / "config.yaml").seed for folder in folders]


def test_runs(run_program, tmp_path):
    run = [*SMALL, f"hydra.run.dir='outputs/{SAME}'", "resume=last"]
    for seed in (0, 1):
        done = run_program("train", *run, f"seed={seed}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    first, second = sorted((tmp_path / "outputs").iterdir())
    assert second.name == f"{first.name}-2"
    assert seeds([first, second]) == [0, 1]
    refused = run_program("train", *run, "optimizer.lr=0", cwd=tmp_path)
    assert refused.returncode == 1
    assert "optimizer.lr must be greater than 0" in refused.stderr
    assert sorted((tmp_path / "outputs").iterdir()) == [first, second], "no third folder"
    assert seeds([first, second]) == [0, 1]


def test_sweeps(run_program, tmp_path):
    for seed in (0, 1):
        sweep = ["-m", *SMALL, f"hydra.sweep.dir='sweeps/{SAME}'", f"seed={seed},{seed + 2}"]
        done = run_program("train", *sweep, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    first, second = sorted((tmp_path / "sweeps").iterdir())
    assert second.name == f"{first.name}-2"
    assert seeds([first / "0", first / "1", second / "0", second / "1"]) == [0, 2, 1, 3]


def test_at_the_same_time(tmp_path):
    folder = tmp_path / "outputs" / "12-00-00"
    with ThreadPoolExecutor(8) as threads:
        own = list(
            threads.map(lambda _: own_folder(configuration("outputs/${now:%S}"), "hydra.run.dir", folder), range(8))
        )
    assert sorted(path.name for path in own) == ["12-00-00", *(f"12-00-00-{n}" for n in range(2, 9))]
    assert sorted((tmp_path / "outputs").iterdir()) == sorted(own)


@pytest.mark.parametrize("pattern", ["run", "outputs/${now:%Y-%m-%d}"])
def test_named_folder_is_shared(tmp_path, pattern):
    config = configuration(pattern)
    for _ in range(2):
        assert own_folder(config, "hydra.run.dir", tmp_path) == tmp_path
    assert config.hydra.overrides.hydra == []


def test_process_of_several_shares_it(monkeypatch, tmp_path):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert own_folder(configuration("outputs/${now:%S}"), "hydra.run.dir", tmp_path) == tmp_path
