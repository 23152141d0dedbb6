"""HTML of text that came from outside: whatever it holds, it is shown as text."""

import html
from collections.abc import Iterable, Sequence
from typing import Any

from fedpm_jax.system.text import printable


def text(value: Any) -> str:
  """Anything as text of a page: of one line, and no markup."""
  return html.escape(printable(str(value)))


def table(
  header: Sequence[str],
  rows: Iterable[tuple[str, Sequence[str]]],
  *,
  numbers: bool = True,
  kind: str = '',
) -> str:
  """A table that scrolls by itself where the window is narrow.

  Args:
    header: of the columns.
    rows: each with the class of the row; the first cell is its name.
    numbers: whether all but the first column are numbers.
    kind: a class of the table.
  """
  of_cell = ' class="number"' if numbers else ''
  head = ''.join(
    f'<th{of_cell if i else ""}>{text(name)}</th>'
    for i, name in enumerate(header)
  )
  body = ''.join(
    f'<tr class="{css}"><th>{text(cells[0])}</th>'
    + ''.join(f'<td{of_cell}>{text(cell)}</td>' for cell in cells[1:])
    + '</tr>'
    for css, cells in rows
  )
  return (
    f'<div class="table" tabindex="0"><table class="{kind}"><thead><tr>{head}'
    f'</tr></thead><tbody>{body}</tbody></table></div>'
  )


def note(sentence: str) -> str:
  """A sentence in small print."""
  return f'<p class="note">{text(sentence)}</p>'
