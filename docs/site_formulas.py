"""Formulas: LaTeX becomes MathML while the site is built, so that pages need neither a script nor a network.

They are written as GitHub shows them, too: a block is fenced as ``math``, and within a line a formula is ``$`x`$``.
"""

import re

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

_BLOCK = re.compile(r"^```math\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"\$`([^`\n]+)`\$")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace a page's formulas."""
    markdown = _BLOCK.sub(lambda found: f'<div class="formula">{_mathml(found[1], "block")}</div>', markdown)
    return _INLINE.sub(lambda found: f'<span class="formula">{_mathml(found[1], "inline")}</span>', markdown)


def _mathml(latex: str, display: str) -> str:
    return convert(" ".join(latex.split()), display=display)
