"""Variable-length integers (LEB128): 7 bits a byte, the lowest bits first.

For tables whose entries are mostly small.  Every value has exactly one code:
a longer spelling of a small number is refused.
"""

import numpy as np

from fedpm_jax.codecs import base

_MAX_BYTES = 5  # values below 2^35
_SHIFTS = 7 * np.arange(_MAX_BYTES)


def encode(values: np.ndarray) -> bytes:
  """Codes integers `[n]` in [0, 2^35)."""
  values = np.asarray(values, np.int64)
  groups = (values[:, None] >> _SHIFTS) & 127
  lengths = _lengths(values)[:, None]
  position = np.arange(_MAX_BYTES)
  groups |= np.where(position < lengths - 1, 128, 0)
  return groups[position < lengths].astype(np.uint8).tobytes()


def size(values: np.ndarray) -> int:
  """How many bytes `encode` writes."""
  return int(_lengths(np.asarray(values, np.int64)).sum())


def decode(payload: bytes, count: int) -> tuple[np.ndarray, int]:
  """Reads `count` integers from the front of a payload.

  Args:
    payload: bytes; what follows the integers is left alone.
    count: how many to read, at least 1.  It may come from a hostile message:
      only the bytes that are there are looked at.

  Returns:
    The values, int64 `[count]`, and the number of bytes that they took.

  Raises:
    WireError: the payload ends early, or a value is not in its shortest form
      or not below 2^35.
  """
  data = np.frombuffer(payload, np.uint8, min(len(payload), _MAX_BYTES * count))
  ends = np.flatnonzero(data < 128)[:count]
  if ends.size < count:
    raise base.WireError(f'varint: got {ends.size} integers, expected {count}.')
  used = int(ends[-1]) + 1
  starts = np.concatenate([[0], ends[:-1] + 1])
  lengths = ends - starts + 1
  if lengths.max() > _MAX_BYTES or ((lengths > 1) & (data[ends] == 0)).any():
    raise base.WireError('varint: got an integer that is too long.')
  shifts = 7 * (np.arange(used) - np.repeat(starts, lengths))
  groups = (data[:used] & 127).astype(np.int64) << shifts
  return np.add.reduceat(groups, starts), used


def _lengths(values: np.ndarray) -> np.ndarray:
  return 1 + (values[:, None] >> _SHIFTS[1:] > 0).sum(axis=1)
