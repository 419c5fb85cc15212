"""The wheel is complete: installed without the repository, it trains from any folder."""

import subprocess
import sys
import zipfile

import pytest


@pytest.mark.slow
@pytest.mark.nightly
def test_installed_wheel_trains(repository, start_program, tmp_path):
    # A copy, so that the build leaves nothing in the repository.
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    for name in filter(None, files):
        if (repository / name).is_file():
            target = tmp_path / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((repository / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, tmp_path / "source"], check=True, timeout=300)
    (wheel,) = tmp_path.glob("castlit-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(repository / "src")) for path in (repository / "src").rglob("*.py")}
    configs = {f"castlit/{path.relative_to(repository)}" for path in (repository / "conf").rglob("*.yaml")}
    assert modules | configs | {"castlit/py.typed"} <= names
    site = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], check=True, timeout=300)

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    where = subprocess.run(
        [sys.executable, "-c", "import castlit, castlit.conf; print(castlit.__file__, castlit.conf.__file__)"],
        cwd=elsewhere,
        env={"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert all(path.startswith(str(site)) for path in where), where
    result = start_program(
        "train",
        "+experiment=cast_mocov2",
        "trainer.max_epochs=1",
        "data.train_count=64",
        "data.val_count=16",
        "data.batch_size=32",
        "hydra.run.dir=run",
        cwd=elsewhere,
        PYTHONPATH=str(site),
    )
    assert result.returncode == 0, result.stderr
    assert (elsewhere / "run" / "checkpoints" / "last.ckpt").is_file()
