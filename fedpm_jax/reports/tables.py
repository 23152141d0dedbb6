"""Rows as CSV and Markdown; whatever a name holds, it stays in its cell."""

import csv
import io
import re
from collections.abc import Iterable
from typing import Any

from fedpm_jax.system.text import printable

# Where Markdown, HTML in it, or a formula on a web page could begin or end.  An
# underscore inside of a word does nothing, and names have many.
_SPECIAL = re.compile(r'[\\`*\[\]<>|#$&~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])')


def to_csv(rows: list[dict[str, Any]], *, digits: int = 17) -> bytes:
  """Rows as CSV; None, and what a row does not have, is an empty cell.

  Args:
    rows: of none, an empty table.  The columns are all names, as they come.
    digits: of numbers that are not whole; 17 keep every bit.
  """

  def cell(value: Any) -> Any:
    if isinstance(value, float):
      return float(f'{value:.{digits}g}')
    return printable(value) if isinstance(value, str) else value

  text = io.StringIO()
  names = list(dict.fromkeys(name for row in rows for name in row))
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(map(cell, names))
  for row in rows:
    writer.writerow(cell(row.get(name)) for name in names)
  return text.getvalue().encode()


def escaped(text: str) -> str:
  """Text that Markdown shows as it is, in one line, in a table too."""
  return _SPECIAL.sub(r'\\\g<0>', printable(text))


def code(text: str) -> str:
  """Text as Markdown's code, whatever backticks are in it."""
  shown = printable(text)
  runs = re.findall('`+', shown)
  if not runs:
    return f'`{shown}`'
  fence = '`' * (1 + max(map(len, runs)))
  return f'{fence} {shown} {fence}'


def line(cells: Iterable[str]) -> str:
  """A line of a Markdown table; names among the cells are `escaped`."""
  return '| ' + ' | '.join(cells) + ' |'
