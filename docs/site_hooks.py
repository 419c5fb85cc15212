"""What the site adds to the pages: notebooks, files from outside docs/, and tables of keys from conf/."""

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from omegaconf import DictConfig, OmegaConf

ROOT = Path(__file__).parents[1]

# Pages that lie elsewhere in the repository. Links to them are written as they work in a clone.
OUTSIDE = {
    "benchmarks/README.md": "project/measurements.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    **{f"notebooks/{path.name}": f"notebooks/{path.stem}.md" for path in sorted((ROOT / "notebooks").glob("*.ipynb"))},
}

_LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)([)#])")
_KEYS = re.compile(r"^<!-- keys of (\w+) -->$", re.MULTILINE)
_PHOTOGRAPHS = ["data=folder", "data.images=/photos", "data.masks=/photo_masks"]
_DATA = {"scenes": ["data=scenes"], "photographs": _PHOTOGRAPHS, "laptop": [*_PHOTOGRAPHS, "budget=laptop"]}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere."""
    for source, page in OUTSIDE.items():
        path = ROOT / source
        text = notebook_page(json.loads(path.read_text())) if path.suffix == ".ipynb" else path.read_text()
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that leave docs/ into links to pages, and marks into tables of keys."""
    here = page.file.src_uri
    source = next((source for source, target in OUTSIDE.items() if target == here), f"docs/{here}")

    def link(found: re.Match[str]) -> str:
        aim = posixpath.normpath(posixpath.join(posixpath.dirname(source), found[1]))
        target = OUTSIDE.get(aim, aim.removeprefix("docs/") if aim.startswith("docs/") else None)
        return found[0] if target is None else f"]({posixpath.relpath(target, posixpath.dirname(here))}{found[2]}"

    markdown = markdown.replace(" ± ", "\u00a0±\u00a0")  # a number and its interval stay on one line
    return _KEYS.sub(lambda mark: keys_table(mark[1]), _LINK.sub(link, markdown))


def notebook_page(notebook: dict[str, Any]) -> str:
    """A notebook as a page: its text, its code, what it printed and drew."""
    parts: list[str] = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            picture = next((kind for kind in ("image/png", "image/jpeg") if kind in data), None)
            printed = "".join(output.get("text", [])) or "".join(data.get("text/plain", []))
            if picture:
                parts.append(f'<img alt="output" src="data:{picture};base64,{"".join(data[picture]).strip()}">')
            elif printed.strip():
                parts.append(f"```text\n{printed.rstrip()}\n```")
    return "\n\n".join(parts)


def keys_table(method: str) -> str:
    """The keys that an experiment sets, with their values by data and budget, as Hydra composes them."""
    columns = {}
    with initialize_config_module("castlit.conf", version_base="1.3"):
        for name, words in _DATA.items():
            columns[name] = _values(compose("train", [f"+experiment=cast_{method}", *words]))
    lines = ["| key | `data=scenes` | photographs | with `budget=laptop` |", "| --- | --- | --- | --- |"]
    for key, value in columns["scenes"].items():
        values = (value, columns["photographs"][key], columns["laptop"][key])
        cells = (json.dumps(each).strip('"') for each in (key, *values))  # as in YAML
        lines.append(f"| {' | '.join(f'`{cell}`' for cell in cells)} |")
    return "\n".join(lines)


def _values(config: DictConfig) -> dict[str, Any]:
    for place in ("method", "optimizer"):
        OmegaConf.resolve(config[place])
    found = {f"method.{key}": value for key, value in config.method.items() if key != "_target_"}
    rates = ("name", "lr", "weight_decay", "warmup_epochs")
    return {**found, **{f"optimizer.{key}": config.optimizer[key] for key in rates}, "colours": config.colours}
