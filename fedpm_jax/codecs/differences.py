"""Integers in groups, such as differences of thetas: few values, far apart.

Each group has the exact counts of the values that occur in it, so values that
do not occur cost nothing, however many lie between two that do.

Payload (varint: see varint.py):

    varints   for each group: how many values occur in it, m; the least one,
              plus 65535, and the gap from each to the next, minus one; then
              the m counts
    4 B words range coder: the values, as indices in [0, m), group by group
"""

from collections.abc import Sequence

import numpy as np

from fedpm_jax.codecs import base, rangecoder, varint

_LIMIT = base.THETA_SCALE - 1  # of a difference of two thetas, both ways
_VALUES = 2 * _LIMIT + 1  # so many differences there are


def encode(groups: Sequence[np.ndarray]) -> bytes:
  """The payload of groups that are not empty.

  Args:
    groups: integers `[n]` each, in [-65535, 65535].
  """
  tables, writer = [], rangecoder.Writer()
  for group in groups:
    counts = np.bincount(group + _LIMIT)
    values = np.flatnonzero(counts)
    gaps = np.diff(values, prepend=-1) - 1
    tables += [[values.size], gaps, counts[values]]
    index = np.zeros(counts.size, np.int32)
    index[values] = np.arange(values.size)
    writer.levels(index[group + _LIMIT], counts[values])
  return varint.encode(np.concatenate(tables)) + writer.finish()


def decode(payload: base.Payload, sizes: Sequence[int]) -> list[np.ndarray]:
  """The inverse of `encode`.

  Args:
    payload: bytes; they may be anything.
    sizes: of the groups, at least 1 each.

  Returns:
    int64 `[n]` each.

  Raises:
    WireError: `encode` cannot have written this.
  """
  table, tables = varint.Reader(payload), []
  for size in sizes:
    (m,) = table.read(1)
    # Checked before it decides how much is read next.  So few gaps, below 2^35
    # each, add up to an int64.
    most = min(size, _VALUES)
    if not 1 <= m <= most:
      raise base.WireError(
        f'differences: values: got {m} in a group of {size}, expected 1 to'
        f' {most}.'
      )
    values = np.cumsum(table.read(m) + 1) - 1 - _LIMIT
    counts = table.read(m)
    if values[-1] > _LIMIT:
      raise base.WireError(
        f'differences: values: got {values[-1]}, expected at most {_LIMIT}.'
      )
    if counts.sum() != size or not counts.all():
      raise base.WireError('differences: counts do not add up.')
    tables.append((size, values, counts))
  reader, groups = rangecoder.Reader(table.rest()), []
  for size, values, counts in tables:
    index = reader.levels(size, counts)
    if (np.bincount(index, minlength=counts.size) != counts).any():
      raise base.WireError('differences: counts are not those of the symbols.')
    groups.append(values[index])
  reader.finish()
  return groups
