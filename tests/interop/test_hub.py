"""torch.hub loads a backbone from a clone."""

import subprocess
import sys

import torch

from castlit.interop import open_backbone

from .conftest import IMAGES, features


def test_torch_hub(repository, resnet18, tmp_path):
    torch.save(resnet18.state_dict(), tmp_path / "r18.pth")
    found = torch.hub.load(str(repository), "backbone", checkpoint=str(tmp_path / "r18.pth"), source="local")
    torch.testing.assert_close(found(IMAGES), features(resnet18), rtol=0, atol=1e-6)
    fresh = torch.hub.load(str(repository), "backbone", backbone="tiny_resnet", source="local")
    assert torch.equal(fresh(IMAGES), open_backbone("random", "tiny_resnet")(IMAGES))


def test_hub_without_installed_castlit(repository, tmp_path):
    """A Python that can import everything but castlit."""
    hide = (
        "import sys, importlib.metadata as m\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == 'castlit' and {str(repository / 'src')!r} not in sys.path: raise ImportError(name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        f"sys.path = [p for p in sys.path if p != {str(repository / 'src')!r}]\n"
        "found = m.version\n"
        "def hidden(name):\n"
        "    if name == 'castlit': raise m.PackageNotFoundError(name)\n"
        "    return found(name)\n"
        "m.version = hidden\n"
        "import torch\n"
        f"net = torch.hub.load({str(repository)!r}, 'backbone', backbone='tiny_resnet', source='local')\n"
        "print(type(net).__name__, sys.modules['castlit'].__version__)\n"
    )
    done = subprocess.run([sys.executable, "-c", hide], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["Sequential", "0+not.installed"]
