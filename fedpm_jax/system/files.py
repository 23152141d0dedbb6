"""Files that are whole or not there: temporary name, then rename."""

import contextlib
import json
import math
import os
import pathlib
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from typing import Any, BinaryIO

_SUFFIX = '.tmp'  # of temporary names
_TEMPORARY = re.compile(rf'\..+\.[0-9a-f]{{32}}{re.escape(_SUFFIX)}')


def to_json(value: Any) -> Any:
  """Plain JSON values: NumPy scalars converted, NaN and infinity as null."""
  if isinstance(value, dict):
    return {str(key): to_json(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [to_json(item) for item in value]
  if hasattr(value, 'item') and getattr(value, 'ndim', None) == 0:
    value = value.item()
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes a JSON file whole or not at all: temporary name, then rename."""
  text = json.dumps(to_json(value), indent=2, allow_nan=False) + '\n'
  write_bytes(path, text.encode())


def remove_temporary(folder: pathlib.Path, *, seconds_old: float = 0) -> None:
  """Removes what `replacing` left behind in processes that were killed.

  Folders inside are left alone: other processes may be writing there.

  Args:
    folder: may be missing.
    seconds_old: younger ones stay; 0 where nobody else writes to the folder.
  """
  for path in list(folder.glob(f'.*{_SUFFIX}')):
    with contextlib.suppress(OSError):  # Another process may remove it first.
      age = time.time() - path.stat().st_mtime
      if age >= seconds_old and _TEMPORARY.fullmatch(path.name):
        remove(path)


def remove(path: pathlib.Path) -> None:
  """Removes a file or a folder, as far as that is possible."""
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path, ignore_errors=True)
  else:
    with contextlib.suppress(OSError):
      path.unlink()


def temporary_name(path: pathlib.Path) -> pathlib.Path:
  """A name beside `path` that no other process uses."""
  return path.with_name(f'.{path.name}.{uuid.uuid4().hex}{_SUFFIX}')


def sync_folder(folder: pathlib.Path) -> None:
  """Waits until the names in a folder are on the disk, where that is possible.

  A rename is an entry of its folder.  After a power cut the content of a file
  can be there, and the new name not.
  """
  with contextlib.suppress(OSError):  # Some file systems, and Windows, refuse.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
      os.fsync(descriptor)
    finally:
      os.close(descriptor)


def write_bytes(path: pathlib.Path, data: bytes) -> None:
  """Writes a file whole or not at all: temporary name, then rename."""
  with replacing(path) as file:
    file.write(data)


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[BinaryIO]:
  """A file to write to; it takes the place of `path` when the block ends.

  Readers see the whole new file or the file before it.  Where the block or the
  disk fails, the old file stays and nothing else is left behind.

  Args:
    path: the file; its folder is made where it is missing.

  Yields:
    A binary file, open for writing.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = temporary_name(path)  # Several processes may write this file.
  try:
    with open(temporary, 'xb') as file:
      yield file
      file.flush()
      # The rename must not reach the disk before the content does.
      os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)
  except OSError as error:
    if error.errno is None:
      raise
    # Nobody knows the temporary name.
    raise OSError(error.errno, error.strerror, str(path)) from error
  finally:
    temporary.unlink(missing_ok=True)
