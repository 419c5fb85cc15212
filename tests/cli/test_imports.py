"""``castlit.cli`` starts without the heavy packages, so that ``--help`` can be fast."""

import subprocess
import sys

import pytest

HEAVY = {"albumentations", "lightning_fabric", "pytorch_lightning", "scipy", "sklearn", "torch"}


def loaded(code, **environment):
    """The top-level packages that a fresh interpreter has loaded after some code."""
    script = (
        f"import os, sys; os.environ.update({environment}); {code}; print(*{{n.split('.')[0] for n in sys.modules}})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import castlit.cli.app, castlit.cli.overrides, castlit.cli.launch",
        "from castlit.cli.launch import *; end_with_parent(); in_one_folder(['seed=1'])",
    ],
)
def test_cli_does_not_load_torch(code):
    packages = loaded(code)
    assert {"castlit", "hydra"} <= packages
    assert not packages & HEAVY
