"""Values as text that is fit for a terminal, a table, a picture."""

import reprlib
from typing import Any


def printable(text: str) -> str:
  r"""The text with a backslash escape for each character that does not print.

  Line breaks, control characters and invisible marks could change what a
  reader sees on a terminal.  Bytes of a file's name that are no UTF-8 are lone
  surrogates, which no output takes.  All letters stay as they are: 'größe'.

  Args:
    text: anything, such as 'a\nb' or `os.fsdecode(b'run\xff')`.

  Returns:
    Text of one line that can be encoded, such as r'a\nb' or r'run\udcff'.
  """
  return ''.join(
    char if char.isprintable() else char.encode('unicode_escape').decode()
    for char in text
  )


def short(value: Any, most: int = 60) -> str:
  """A value for a message, as Python writes it, but not at any length.

  Args:
    value: anything.
    most: characters of a text, or of a number; of a list a few elements.
  """
  shortened = reprlib.Repr()
  shortened.maxstring = shortened.maxother = most
  return shortened.repr(value)


def one_line(value: Any) -> str:
  """What `str` makes of a value, with a space for each break of a line."""
  return ' '.join(str(value).split())


def duration(seconds: float) -> str:
  """Such as '45 s', '12 min' or '3 h 20 min'."""
  if seconds < 100:
    return f'{seconds:.0f} s'
  minutes = round(seconds / 60)
  if minutes < 100:
    return f'{minutes} min'
  return f'{minutes // 60} h {minutes % 60} min'
