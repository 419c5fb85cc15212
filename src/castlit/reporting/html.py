"""Self-contained HTML pages of tables and images."""

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
    """Assemble a page from parts in HTML."""
    return _PAGE.format(title=html.escape(title), body="\n".join(parts)).encode("utf-8", "replace")


def heading(text: str, level: int = 2) -> str:
    """Format plain text as a heading."""
    return f"<h{level}>{html.escape(text)}</h{level}>"


def paragraph(text: str) -> str:
    """Format plain text as a paragraph."""
    return f"<p>{html.escape(text)}</p>"


def table(results: Results | Table, published: Sequence[PublishedRow] = ()) -> str:
    """Format a protocol's metrics as a table, with published ones beside them, marked, and their sources below."""
    layout = lay_out(results, published)
    notes = "".join(f"<small>{html.escape(note)}</small><br>" for note in layout.notes)
    return text_table(layout.header, layout.rows, layout.published_rows) + notes


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], published: int = 0) -> str:
    """Format cells of plain text as a table; the last ``published`` rows are faint."""
    ours = len(rows) - published
    lines = [_row(header, tag="th"), *(_row(row, kind="published" if i >= ours else "") for i, row in enumerate(rows))]
    return f"<div class=wide><table>{''.join(lines)}</table></div>"


def figure(picture: Picture, caption: str, name: str = "") -> str:
    """Embed an image (H, W, 3) RGB as a JPEG, with a caption of plain text."""
    data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    code = base64.b64encode(data.tobytes()).decode()
    return (
        f'<figure><img src="data:image/jpeg;base64,{code}" alt="{html.escape(name or caption, quote=True)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def sheet(figures: Sequence[str]) -> str:
    """Arrange figures one below the other."""
    return f"<div class=sheet>{''.join(figures)}</div>"


def _row(cells: Sequence[str], tag: str = "td", kind: str = "") -> str:
    content = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
    return f"<tr{f' class={kind}' if kind else ''}>{content}</tr>"
