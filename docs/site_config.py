"""Keys with their comments, from conf/ as it is: marks ``<!-- config train.yaml -->`` and ``<!-- config data/ -->``."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

CONF = Path(__file__).parents[1] / "conf"
MARK = re.compile(r"^<!-- config (\S+) -->$", re.MULTILINE)

_INNER = re.compile(r"^(?:hydra|module|benchmark):\n(?: .*\n|\n)*", re.MULTILINE)
"""In a program's file: how it is put together and starts, and its help. Nothing that users set."""

_PACKAGE = "# @package _global_\n"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace a page's marks by files, and marks that end in a slash by all options of a group."""
    return MARK.sub(lambda mark: _group(mark[1]) if mark[1].endswith("/") else _program(mark[1]), markdown)


def _group(name: str) -> str:
    options = sorted((CONF / name).glob("*.yaml"))
    shown = [(f"{name.rstrip('/')}={option.stem}", option.read_text().replace(_PACKAGE, "")) for option in options]
    return "\n\n".join(f"### {title}\n\n{_yaml(text)}" for title, text in shown)


def _program(file: str) -> str:
    return _yaml(_INNER.sub("", (CONF / file).read_text()))


def _yaml(text: str) -> str:
    return f"```yaml\n{text.strip()}\n```"
