"""Decoded data sets kept on disk: named integer arrays in one `.npz` file.

A cache may be lost, cut short by a full disk, written by an older program or
belong to something else.  Whatever is wrong with it, `read` answers None and
the caller decodes the data again.  Wrong arrays are never returned, because the
file carries the key under which it was written, and the zip format has a
checksum for each array.
"""

import pathlib
from typing import Any

import numpy as np
from absl import logging

from fedpm_jax.system import files

_OLD = 24 * 60 * 60  # seconds: no process writes to one file for so long


def read(path: pathlib.Path, key: str) -> dict[str, np.ndarray] | None:
  """The arrays stored at `path`, or None unless they are whole and under `key`.

  Args:
    path: the file, which need not exist.
    key: says what the arrays are; compared with the key given to `write`.

  Returns:
    The arrays by name, or None where the caller has to make them again.
  """
  # The file is opened here because np.load leaves it open when it fails.
  try:
    with (
      open(path, 'rb') as file,
      np.load(file, allow_pickle=False) as stored,
    ):
      arrays = {name: stored[name] for name in stored.files}
    found = str(arrays.pop('key'))
  except (FileNotFoundError, NotADirectoryError):
    return None
  # The type depends on the damaged byte and is one of a dozen (BadZipFile,
  # zlib.error, ValueError, EOFError, KeyError, NotImplementedError, ...).
  except Exception as error:
    logging.warning('Ignored the unreadable cache %s: %r', path, error)
    return None
  # A damaged directory of the zip file can hide arrays; the label lists them.
  if found != _label(key, arrays):
    logging.warning('Ignored the cache %s of other data: %s', path, found)
    return None
  return arrays


def write(path: pathlib.Path, key: str, arrays: dict[str, np.ndarray]) -> None:
  """Stores arrays so that a reader sees the whole file or the file before it.

  It also removes temporary files in the same folder that killed processes left.

  Args:
    path: the file; its folder is made where missing.
    key: says what the arrays are.
    arrays: numeric arrays by name; the name `key` is taken.

  Raises:
    OSError: where the file cannot be written; nothing is left behind.
  """
  named: dict[str, Any] = {
    **arrays
  }  # `savez` has parameters of other types too
  files.remove_temporary(path.parent, seconds_old=_OLD)
  with files.replacing(path) as file:
    np.savez(file, key=np.array(_label(key, arrays)), **named)


def _label(key: str, arrays: dict[str, np.ndarray]) -> str:
  """What is stored as the file's `key`: the key and the names of all arrays."""
  return f'{key}, arrays {" ".join(sorted(arrays))}'
