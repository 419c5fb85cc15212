"""Keys with their comments, from conf/ as it is: marks ``<!-- config train.yaml -->`` and ``<!-- config data/ -->``.

So are the lines ``--8<-- "conf/data/folder.yaml"`` in a page's own blocks.
"""

import re
import textwrap
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

CONF = Path(__file__).parents[1] / "conf"
MARK = re.compile(r"^<!-- config (\S+) -->$", re.MULTILINE)

_INNER = re.compile(r"^(?:hydra|module|benchmark):\n(?: .*\n|\n)*", re.MULTILINE)
"""In a program's file: how it is put together and starts, and its help. Nothing that users set."""

_PACKAGE = "# @package _global_\n"
_COMMENT = re.compile(r"^( *# )(.*)$")
_SNIPPET = re.compile(r'^--8<-- "conf/(\S+)"$', re.MULTILINE)

WIDTH = 100
"""Characters of a line of a page's block, where conf/ has 120."""


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace a page's marks by files, and marks that end in a slash by all options of a group."""
    markdown = _SNIPPET.sub(lambda mark: reflow(_read(CONF / mark[1])).strip(), markdown)
    return MARK.sub(lambda mark: _group(mark[1]) if mark[1].endswith("/") else _program(mark[1]), markdown)


def reflow(text: str, width: int = WIDTH) -> str:
    """Break comments that are too wide; what is left of a line begins the next one of its comment.

    Args:
        text: YAML, with comments on lines of their own.
        width: Characters of a line, at most.
    """
    lines: list[str] = []
    left_over, mark = "", ""
    for line in [*text.splitlines(), None]:
        found = _COMMENT.match(line) if line is not None else None
        if found is None or found[1] != mark:  # the comment above has ended
            lines += _wrapped(left_over, mark, width)
            left_over = ""
        if found is not None:
            mark = found[1]
            first, *rest = _wrapped(f"{left_over} {found[2]}".strip(), mark, width) or [mark]
            lines.append(first)
            left_over = " ".join(more.removeprefix(mark) for more in rest)
        elif line is not None:
            lines.append(line)
    return "\n".join(lines)


def _wrapped(words: str, mark: str, width: int) -> list[str]:
    return textwrap.wrap(
        words, width, initial_indent=mark, subsequent_indent=mark, break_long_words=False, break_on_hyphens=False
    )


def _group(name: str) -> str:
    options = sorted((CONF / name).glob("*.yaml"))
    shown = [(f"{name.rstrip('/')}={option.stem}", _read(option)) for option in options]
    return "\n\n".join(f"### {title}\n\n{_yaml(text)}" for title, text in shown)


def _read(file: Path) -> str:
    return file.read_text().replace(_PACKAGE, "")


def _program(file: str) -> str:
    return _yaml(_INNER.sub("", (CONF / file).read_text()))


def _yaml(text: str) -> str:
    return f"```yaml\n{reflow(text).strip()}\n```"
