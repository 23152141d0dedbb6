"""Keeps back a warning of a library that we say better, or not at all."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def without(logger: str, words: str) -> Iterator[None]:
  """Leaves out what a logger says with these words.

  Args:
    logger: its name, such as 'absl'.
    words: a part of the message.
  """
  is_other = lambda record: words not in record.getMessage()
  found = logging.getLogger(logger)
  found.addFilter(is_other)
  try:
    yield
  finally:
    found.removeFilter(is_other)
