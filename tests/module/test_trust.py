"""Opening a checkpoint imports castlit's classes only, and what the user trusts; nothing in the file is executed."""

import http.server
import pickle
import sys
import threading
from functools import partial

import pytest
import torch

from castlit import CASTModule
from castlit.data import ScenesDataModule
from castlit.methods import SimCLR
from castlit.resume.checkpoint_io import AtomicCheckpointIO
from castlit.utils.validation import InputError

VERSION = {"pytorch-lightning_version": "2.6.6"}

EVIL = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
import castlit
class Method(castlit.methods.SimCLR):
    pass
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with a module that notes that it ran, as ``python -m`` finds it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "evil_module.py").write_text(EVIL)
    yield tmp_path
    sys.modules.pop("evil_module", None)


@pytest.fixture
def checkpoint(folder):
    module = CASTModule(SimCLR("tiny_resnet", dim=4))
    settings = dict(module.hparams)
    settings["method"] = {**settings["method"], "_target_": "evil_module.Method"}
    torch.save({**VERSION, "state_dict": module.state_dict(), "hyper_parameters": settings}, folder / "evil.ckpt")
    return folder / "evil.ckpt"


def test_named_module_is_not_imported(folder, checkpoint):
    words = r"evil\.ckpt: cannot find the class 'evil_module\.Method' in what is imported.* or give trust=evil_module"
    with pytest.raises(InputError, match=words):
        CASTModule.load_from_checkpoint(checkpoint)
    with pytest.raises(InputError, match=words):
        CASTModule.load_from_checkpoint(checkpoint, trust="evil")  # another package
    assert not (folder / "ran").exists()
    assert "evil_module" not in sys.modules


@pytest.mark.parametrize("trust", ["evil_module", ["os", "evil_module"]])
def test_trusted_module_is_imported(folder, checkpoint, trust):
    loaded = CASTModule.load_from_checkpoint(checkpoint, trust=trust)
    assert type(loaded.method).__module__ == "evil_module"
    assert (folder / "ran").exists()
    sys.modules.pop("evil_module")
    with pytest.raises(InputError, match="cannot find the class"):  # for that call only
        CASTModule.load_from_checkpoint(checkpoint)


def test_imported_module_needs_no_word(folder, checkpoint):
    import evil_module

    assert type(CASTModule.load_from_checkpoint(checkpoint).method) is evil_module.Method


def test_given_method_needs_no_word(folder, checkpoint):
    loaded = CASTModule.load_from_checkpoint(checkpoint, method=SimCLR("tiny_resnet", dim=4))
    assert type(loaded.method) is SimCLR
    assert not (folder / "ran").exists()


def test_trusted_module_that_cannot_be_imported(folder, checkpoint):
    (folder / "evil_module.py").write_text("import a_package_that_is_not_there\n")
    with pytest.raises(InputError, match=r"cannot import evil_module, .*a_package_that_is_not_there"):
        CASTModule.load_from_checkpoint(checkpoint, trust="evil_module")
    (folder / "evil_module.py").unlink()
    with pytest.raises(InputError, match="is the package that defines it installed"):
        CASTModule.load_from_checkpoint(checkpoint, trust="evil_module")


class Runs:
    ran = False

    def __reduce__(self):
        return (setattr, (Runs, "ran", True))


@pytest.fixture
def url(tmp_path, monkeypatch):
    """A server of the folder's files."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


LOADERS = {
    "module": CASTModule.load_from_checkpoint,
    "module_none": partial(CASTModule.load_from_checkpoint, weights_only=None),
    "data": ScenesDataModule.load_from_checkpoint,
    "data_none": partial(ScenesDataModule.load_from_checkpoint, weights_only=None),
    "trainer": AtomicCheckpointIO().load_checkpoint,
    "trainer_none": partial(AtomicCheckpointIO().load_checkpoint, weights_only=None),
}


@pytest.mark.parametrize("place", ["file", "url"])
@pytest.mark.parametrize("loader", LOADERS)
def test_nothing_in_the_file_is_executed(tmp_path, url, monkeypatch, loader, place):
    """Lightning's own default runs what it finds under a URL."""
    monkeypatch.setattr(Runs, "ran", False)
    torch.save({**VERSION, "state_dict": {}, "hyper_parameters": {"method": Runs()}}, tmp_path / "runs.ckpt")
    with pytest.raises((InputError, pickle.UnpicklingError), match=r"Weights only load failed|UnpicklingError"):
        LOADERS[loader](tmp_path / "runs.ckpt" if place == "file" else f"{url}/runs.ckpt")
    assert not Runs.ran


def test_execution_would_be_noticed(monkeypatch):
    monkeypatch.setattr(Runs, "ran", False)
    pickle.loads(pickle.dumps(Runs()))
    assert Runs.ran  # it would have been noticed


def test_checkpoint_from_a_url(tmp_path, url):
    module = CASTModule(SimCLR("tiny_resnet", dim=4))
    content = {**VERSION, "state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
    torch.save(content, tmp_path / "plain.ckpt")
    loaded = CASTModule.load_from_checkpoint(f"{url}/plain.ckpt")
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in module.state_dict().items())
