"""Files that are whole or not there: temporary name, then rename."""

import json
import math
import os
import pathlib
from typing import Any


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
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    with open(temporary, 'wb') as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)
