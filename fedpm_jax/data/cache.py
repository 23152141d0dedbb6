"""Decoded data sets kept on disk: named integer arrays in one `.npz` file.

A cache may be lost, cut short by a full disk, written by an older program or
belong to something else; whatever is wrong with it, `read` answers None and
the caller decodes the data again.  Wrong arrays are never returned: the file
carries the key it was written under, and the zip format a checksum per array.
"""

import os
import pathlib
import uuid

import numpy as np
from absl import logging


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
  # Depending on the damaged byte this is any of a dozen types (BadZipFile,
  # zlib.error, ValueError, EOFError, KeyError, NotImplementedError, ...).
  except Exception as error:
    logging.warning('Ignored the unreadable cache %s: %r', path, error)
    return None
  # A damaged directory of the zip file can hide arrays, so they are listed too.
  if found != _label(key, arrays):
    logging.warning('Ignored the cache %s of other data: %s', path, found)
    return None
  return arrays


def write(path: pathlib.Path, key: str, arrays: dict[str, np.ndarray]) -> None:
  """Stores arrays so that a reader sees the whole file or the file before it.

  Args:
    path: the file; its folder is made where missing.
    key: says what the arrays are.
    arrays: numeric arrays by name; the name `key` is taken.

  Raises:
    OSError: where the file cannot be written; nothing is left behind.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  # A name of its own, since several processes may decode the same data.
  temporary = path.with_name(f'{path.name}.{uuid.uuid4().hex}.tmp')
  try:
    with open(temporary, 'xb') as file:
      np.savez(file, key=np.array(_label(key, arrays)), **arrays)
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def _label(key: str, arrays: dict[str, np.ndarray]) -> str:
  return f'{key}, arrays {" ".join(sorted(arrays))}'
