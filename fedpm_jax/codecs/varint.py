"""Variable-length integers (LEB128): 7 bits a byte, the lowest bits first.

They serve tables whose entries are mostly small.  Every value has exactly one
code: the decoder refuses a longer spelling of a small number.
"""

import numpy as np

from fedpm_jax.codecs import base

_MAX_BYTES = 5  # values below 2^35
_SHIFTS = 7 * np.arange(_MAX_BYTES)


def encode(values: np.ndarray) -> bytes:
  """Codes integers `[n]` in [0, 2^35)."""
  values = np.asarray(values, np.int64)
  # Every value is cut into five groups of 7 bits; the leading zero groups are
  # then left out, all values at once.
  groups = (values[:, None] >> _SHIFTS) & 127
  lengths = _lengths(values)[:, None]
  position = np.arange(_MAX_BYTES)
  # The highest bit says: another byte of the same value follows.
  groups |= np.where(position < lengths - 1, 128, 0)
  return groups[position < lengths].astype(np.uint8).tobytes()


def size(values: np.ndarray) -> int:
  """How many bytes `encode` writes."""
  return int(_lengths(np.asarray(values, np.int64)).sum())


def decode(payload: base.Payload, count: int) -> tuple[np.ndarray, int]:
  """Reads `count` integers from the front of a payload.

  Args:
    payload: bytes; what follows the integers is left alone.
    count: how many to read, at least 1.  It may come from a hostile message,
      so only the bytes that are there are looked at.

  Returns:
    The values, int64 `[count]`, and the number of bytes that they took.

  Raises:
    WireError: the payload ends early, or a value is not in its shortest form
      or not below 2^35.
  """
  # No vector of `count` integers is longer than this; the rest of the payload,
  # which may be large, is not scanned.
  data = np.frombuffer(payload, np.uint8, min(len(payload), _MAX_BYTES * count))
  ends = np.flatnonzero(data < 128)[:count]
  if ends.size < count:
    raise base.WireError(f'varint: got {ends.size} integers, expected {count}.')
  used = int(ends[-1]) + 1
  starts = np.concatenate([[0], ends[:-1] + 1])
  lengths = ends - starts + 1
  # A last byte of 0 adds nothing, so a shorter code of the value exists.
  if lengths.max() > _MAX_BYTES or ((lengths > 1) & (data[ends] == 0)).any():
    raise base.WireError('varint: got an integer that is too long.')
  shifts = 7 * (np.arange(used) - np.repeat(starts, lengths))
  groups = (data[:used] & 127).astype(np.int64) << shifts
  return np.add.reduceat(groups, starts), used


class Reader:
  """Varints from the front of a payload, a few at a time."""

  def __init__(self, payload: base.Payload):
    """Reads nothing yet."""
    self._payload = memoryview(payload)

  def read(self, count: int) -> np.ndarray:
    """The next `count` integers, int64 `[count]`; see `decode`."""
    # Only the bytes that so many integers can take are copied.
    count = int(count)
    values, used = decode(bytes(self._payload[: _MAX_BYTES * count]), count)
    self._payload = self._payload[used:]
    return values

  def rest(self) -> bytes:
    """What follows the integers that were read."""
    return bytes(self._payload)


def _lengths(values: np.ndarray) -> np.ndarray:
  """How many bytes each value `[n]` takes, at least 1."""
  return 1 + (values[:, None] >> _SHIFTS[1:] > 0).sum(axis=1)
