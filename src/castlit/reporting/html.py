"""Pages of tables and pictures that need nothing beside them."""

import base64
import html
from collections.abc import Sequence

import cv2

from castlit.reporting.images import Picture
from castlit.reporting.layout import lay_out
from castlit.reporting.published import PublishedRow
from castlit.reporting.results import Results, Table

_QUALITY = 82  # of JPEG

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ margin: 1rem auto; padding: 0 .8rem; max-width: 82rem; font: 16px/1.45 system-ui, sans-serif; color: #222;
  background: #fff }}
h1 {{ font-size: 1.35rem; overflow-wrap: anywhere }}
h2 {{ font-size: 1.15rem; margin: 2rem 0 .6rem }}
h3 {{ font-size: 1rem; margin: 1.4rem 0 .5rem }}
.wide {{ overflow-x: auto }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
th, td {{ padding: .2rem .7rem; border-bottom: 1px solid #ddd; text-align: right }}
th:first-child, td:first-child {{ text-align: left }}
.published {{ color: #667 }}
small {{ color: #667 }}
.sheet {{ display: grid; gap: 1rem }}
figure {{ margin: 0; overflow-x: auto }}
img {{ display: block; max-width: 100% }}
figcaption {{ font-size: .85rem; color: #444; overflow-wrap: anywhere }}
</style>
<h1>{title}</h1>
{body}
</html>
"""


def page(title: str, parts: Sequence[str]) -> bytes:
    """A whole page of parts that are HTML already."""
    return _PAGE.format(title=html.escape(title), body="\n".join(parts)).encode("utf-8", "replace")


def heading(text: str, level: int = 2) -> str:
    """A heading of plain text."""
    return f"<h{level}>{html.escape(text)}</h{level}>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{html.escape(text)}</p>"


def table(results: Results | Table, published: Sequence[PublishedRow] = ()) -> str:
    """A protocol's figures; published ones stand beside them, marked, with their source below."""
    layout = lay_out(results, published)
    lines = [_row(layout.header, tag="th")]
    ours = len(layout.rows) - layout.published_rows
    lines += [_row(row, kind="published" if i >= ours else "") for i, row in enumerate(layout.rows)]
    small = "".join(f"<small>{html.escape(note)}</small><br>" for note in layout.notes)
    return f"<div class=wide><table>{''.join(lines)}</table></div>{small}"


def figure(picture: Picture, caption: str, name: str = "") -> str:
    """A picture (H, W, 3) RGB, as a JPEG within the page."""
    data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    code = base64.b64encode(data.tobytes()).decode()
    told = html.escape(caption)
    return (
        f'<figure><img src="data:image/jpeg;base64,{code}" alt="{html.escape(name or caption, quote=True)}">'
        f"<figcaption>{told}</figcaption></figure>"
    )


def sheet(figures: Sequence[str]) -> str:
    """Figures one below the other."""
    return f"<div class=sheet>{''.join(figures)}</div>"


def _row(cells: Sequence[str], tag: str = "td", kind: str = "") -> str:
    inside = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
    return f"<tr{f' class={kind}' if kind else ''}>{inside}</tr>"
