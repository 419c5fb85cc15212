"""What training must not import: it would slow down the start of every run."""

import subprocess
import sys

# Lightning's own imports (torchmetrics uses scipy) are not castlit's.
CODE = """
import sys
import pytorch_lightning
before = set(sys.modules)
import castlit
import castlit.training.build, castlit.training.fit, castlit.training.closing_table
castlit.callbacks, [getattr(castlit.data, name) for name in castlit.data.__all__]
print(*sorted(set(sys.modules) - before))
"""


def test_no_evaluation_and_no_scientific_libraries():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    imported = done.stdout.split()
    assert "castlit.callbacks.self_masks" in imported
    unwanted = ("castlit.evaluation", "castlit.saliency", "albumentations", "sklearn", "scipy", "skimage")
    found = [name for name in imported if name.startswith(tuple(f"{each}." for each in unwanted)) or name in unwanted]
    assert found == []
