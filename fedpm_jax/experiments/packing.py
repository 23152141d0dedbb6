"""A state in few bytes: vectors of few different values become indices.

The server of FedPM counts K masks.  Its alpha, beta and theta have at most
K + 1 different values where the prior is reset in every round, and one tells the
others.  So the three, and the theta that clients hold, are a table of few rows
and one index for each parameter: 1 byte in place of 12.  Nothing here knows of
methods: whatever vectors happen to have few values are packed, to the bit.

Dimensions: d elements of a vector, n rows of a table.
"""

import collections
from typing import Any, NamedTuple

import jax
import numpy as np

from fedpm_jax.experiments import arrays

_SMALL = 1024  # elements that are not worth it
_MOST = 2**16  # rows of a table
_COUNTED = 2**22  # different values, up to which counting beats sorting

# Of a table: the names of its columns, and its number of rows.
Table = dict[str, Any]
SHAPE = {'names': [str], 'rows': range(1, _MOST + 1)}


class _Columns(NamedTuple):
  """Some vectors as one table.

  Attributes:
    places: rows, of the smallest type that has room, `[d]`.
    values: an array `[n]` for each vector, by its name.
  """

  places: np.ndarray
  values: dict[str, np.ndarray]


def pack(state: Any) -> tuple[dict[str, Any], list[Table]]:
  """A tree of arrays in the host's memory, as few bytes.

  Returns:
    What is to be written, and what `unpack` must know of it besides.
  """
  named = arrays.named(state)
  tables: list[_Columns] = []
  for group in _alike(named):
    joined: list[_Columns] = []
    for name in group:
      column = _column(name, named[name])
      if column is None:
        continue
      if joined and (both := _join(joined[-1], column)):
        joined[-1] = both
      else:
        joined.append(column)
    tables += [table for table in joined if _is_smaller(table)]
  packed = {name for table in tables for name in table.values}
  written = {
    'whole': {k: v for k, v in named.items() if k not in packed},
    'index': {str(i): table.places for i, table in enumerate(tables)},
    'values': {k: v for table in tables for k, v in table.values.items()},
  }
  told = [
    {'names': list(t.values), 'rows': len(next(iter(t.values.values())))}
    for t in tables
  ]
  return written, told


def expected(like: Any, tables: list[Table]) -> dict[str, Any]:
  """What `pack` has made of a state of this structure: shapes and types.

  Raises:
    ValueError: no such state has these tables.
  """
  named = arrays.named(like)
  whole, index, values = dict(named), {}, {}
  for i, table in enumerate(tables):
    shapes = set()
    for name in table['names']:
      if name not in whole:
        raise ValueError(
          f'tables[{i}] has {name!r}, which is no array, or twice'
        )
      shapes.add(whole[name].shape)
      values[name] = _like((table['rows'],), whole.pop(name).dtype)
    if len(shapes) != 1:
      raise ValueError(
        f'tables[{i}] must have vectors of one length, got {shapes}'
      )
    index[str(i)] = _like(shapes.pop(), _index_type(table['rows']))
  return {'whole': whole, 'index': index, 'values': values}


def unpack(written: dict[str, Any], tables: list[Table], like: Any) -> Any:
  """The state again.

  Raises:
    IndexError: an index is outside of its table.
  """
  named = dict(written['whole'])
  for i, table in enumerate(tables):
    for name in table['names']:
      named[name] = written['values'][name][written['index'][str(i)]]
  structure = jax.tree.structure(like)
  return jax.tree.unflatten(structure, [named[k] for k in arrays.named(like)])


def _like(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape, dtype)


def _alike(named: dict[str, np.ndarray]) -> list[list[str]]:
  """The names of long vectors, by their length."""
  groups = collections.defaultdict(list)
  for name, array in named.items():
    if array.ndim == 1 and array.size >= _SMALL and array.itemsize <= 4:
      groups[array.size].append(name)
  return list(groups.values())


def _index_type(rows: int) -> type[np.unsignedinteger]:
  return np.uint8 if rows <= 2**8 else np.uint16


def _column(name: str, array: np.ndarray) -> _Columns | None:
  """One vector as a table; None where it has too many values."""
  # As integers, so that NaN and -0 are values like all others.
  bits = np.ascontiguousarray(array).view(f'u{array.itemsize}')
  few = bits[:: max(1, bits.size // _SMALL)]
  if array.itemsize > 2 and 2 * len(np.unique(few)) > len(few):
    return None
  found = _levels(bits, 2 ** (8 * array.itemsize))
  if found is None:
    return None
  values, index = found
  return _Columns(index, {name: values.astype(bits.dtype).view(array.dtype)})


def _levels(
  numbers: np.ndarray, bound: int
) -> tuple[np.ndarray, np.ndarray] | None:
  """The different numbers, in order, and which one each is; None: too many.

  Args:
    numbers: unsigned integers `[d]`.
    bound: above all of them.
  """
  if bound <= _COUNTED:
    occurs = np.zeros(bound, np.bool_)
    occurs[numbers] = True
    values = np.flatnonzero(occurs)
    if len(values) > _MOST:
      return None
    places = np.cumsum(occurs) - 1
    return values, places.astype(_index_type(len(values)))[numbers]
  values = np.unique(numbers)
  if len(values) > _MOST:
    return None
  index = np.searchsorted(values, numbers)
  return values, index.astype(_index_type(len(values)))


def _join(one: _Columns, other: _Columns) -> _Columns | None:
  """Both as one table; None where that takes more bytes."""
  rows = [len(next(iter(table.values.values()))) for table in (one, other)]
  pairs = one.places.astype(np.uint32) * np.uint32(rows[1]) + other.places
  found = _levels(pairs, rows[0] * rows[1])
  if found is None or found[1].itemsize >= _cost(one) + _cost(other):
    return None
  first, second = np.divmod(found[0], rows[1])
  return _Columns(
    found[1],
    {k: v[first] for k, v in one.values.items()}
    | {k: v[second] for k, v in other.values.items()},
  )


def _cost(table: _Columns) -> int:
  """Bytes of an element, in the table or as it was."""
  return min(table.places.itemsize, _size(table))


def _is_smaller(table: _Columns) -> bool:
  return table.places.itemsize < _size(table)


def _size(table: _Columns) -> int:
  """Bytes of an element of all columns as they were."""
  return sum(values.itemsize for values in table.values.values())
