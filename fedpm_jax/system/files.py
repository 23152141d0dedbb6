"""Files that are whole or not there: temporary name, then rename."""

import contextlib
import json
import math
import os
import pathlib
import uuid
from collections.abc import Iterator
from typing import Any, BinaryIO


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


def read_json(path: pathlib.Path) -> Any:
  """Reads what `write_json` wrote."""
  return json.loads(path.read_text())


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
  # A name of its own, because several processes may write the same file.
  temporary = path.with_name(f'.{path.name}.{uuid.uuid4().hex}.tmp')
  try:
    with open(temporary, 'xb') as file:
      yield file
      file.flush()
      # The rename must not reach the disk before the content does.
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)
