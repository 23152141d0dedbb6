"""The arrays of a state on disk, by orbax, whose errors become one line.

Orbax writes and reads arrays well.  When a disk is full or a file is damaged,
it raises errors of a dozen types, and logs hundreds of lines from its threads.
"""

import contextlib
import logging as python_logging
import os
import pathlib
import re
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from absl import logging
from orbax import checkpoint as orbax

from fedpm_jax.data import checks
from fedpm_jax.system import reading


def write(path: pathlib.Path, state: Any) -> None:
  """Writes a tree of arrays of the host's memory into a new folder.

  Raises:
    Exception: anything; see `reason`.
  """
  with _checkpointer() as checkpointer:
    checkpointer.save(path.absolute(), args=orbax.args.StandardSave(state))


def read(path: pathlib.Path, like: Any) -> Any:
  """A tree of arrays, in the host's memory.

  Args:
    path: that `write` made.
    like: arrays, or their shapes and dtypes, in a tree of the same structure.

  Raises:
    FileError: the folder is damaged; orbax itself raises whatever its bytes
      lead it to.
  """
  expected = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
  try:
    with _checkpointer() as checkpointer:
      return checkpointer.restore(
        path.absolute(), args=orbax.args.StandardRestore(expected)
      )
  except Exception as error:
    raise reading.FileError(path, reason(error)) from error


def named(tree: Any) -> dict[str, Any]:
  """The arrays of a tree by their place, such as 'server.scores'."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator='.'): leaf
    for path, leaf in leaves
  }


def types(tree: Any) -> dict[str, str]:
  """The dtype and shape of every array."""
  leaves = named(tree).items()
  return {name: f'{leaf.dtype}{list(leaf.shape)}' for name, leaf in leaves}


def checksums(tree: Any) -> dict[str, Any]:
  """Of arrays in the host's memory: type and checksum of each."""
  types_ = types(tree)
  return {
    name: {'type': types_[name], 'crc32': checks.checksum([leaf])}
    for name, leaf in named(tree).items()
  }


def reason(error: Exception) -> str:
  """What is wrong, in a line, of the many lines of orbax."""
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  text = str(error).strip() or type(error).__name__
  system = re.search(r"os_error_code='(\d+)'", text)
  if system:
    return os.strerror(int(system[1]))
  return textwrap.shorten(text.splitlines()[0], 200)


def _alone() -> orbax.options.MultiprocessingOptions:
  """One host writes and reads; orbax must not wait for the others."""
  if jax.process_count() == 1:
    return orbax.options.MultiprocessingOptions()
  index = jax.process_index()
  return orbax.options.MultiprocessingOptions(index, {index})


@contextlib.contextmanager
def _checkpointer() -> Iterator[orbax.Checkpointer]:
  """Orbax, without the hundred lines that it logs for an error it raises too.

  Where it fails, its threads go on for a moment and find their event loop
  closed, and other tasks have failed too, so that these are ignored from then
  on.
  """
  logger, previous = logging.get_absl_logger(), sys.unraisablehook
  tasks = python_logging.getLogger('asyncio')

  def is_of_others(record):
    return 'orbax' not in record.pathname

  def is_no_task_of_orbax(record):
    return 'orbax' not in record.getMessage()

  def unraisable(what):
    if str(what.exc_value) != 'Event loop is closed':
      previous(what)

  logger.addFilter(is_of_others)
  tasks.addFilter(is_no_task_of_orbax)
  sys.unraisablehook = unraisable
  try:
    with orbax.Checkpointer(
      orbax.StandardCheckpointHandler(multiprocessing_options=_alone()),
      multiprocessing_options=_alone(),
    ) as checkpointer:
      yield checkpointer
    sys.unraisablehook = previous
    tasks.removeFilter(is_no_task_of_orbax)
  finally:
    logger.removeFilter(is_of_others)
