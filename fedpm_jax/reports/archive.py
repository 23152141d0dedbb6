"""The symbols of some rounds, kept beside a run's other files.

They are what `report --bits` compares codecs on.
"""

import io
import math
import pathlib
import zipfile
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from fedpm_jax import masks
from fedpm_jax.simulation.rounds import Kept
from fedpm_jax.system import files, reading

FOLDER = 'symbols'
_REMEDY = 'It is damaged, or of another run: delete it.'
_HEADER = 4096  # bytes; more than what stands before an array, or about it


class Sizes(NamedTuple):
  """Of a run; what it kept has no others.

  Attributes:
    num_parameters: d.
    num_clients: M.
    clients_per_round: K, at most.
    num_rounds: of the whole run.
  """

  num_parameters: int
  num_clients: int
  clients_per_round: int
  num_rounds: int


def save(workdir: pathlib.Path, round_: Kept) -> None:
  """Writes `<workdir>/symbols/round_00029.npz`, whole or not at all."""
  path = pathlib.Path(workdir) / FOLDER / _name(round_.round_idx)
  path.parent.mkdir(parents=True, exist_ok=True)
  buffer = io.BytesIO()
  np.savez(buffer, **round_._asdict())
  files.write_bytes(path, buffer.getvalue())


def num_bytes(sizes: Sizes) -> int:
  """What `save` writes for one round of a run, at most."""
  return sum(_largest(sizes).values())


def keep_only(workdir: pathlib.Path, rounds: Collection[int]) -> None:
  """Removes the archives of all other rounds."""
  names = {_name(round_idx) for round_idx in rounds}
  for path in (pathlib.Path(workdir) / FOLDER).glob('round_*.npz'):
    if path.name not in names:
      path.unlink()


def _name(round_idx: int) -> str:
  return f'round_{round_idx:05d}.npz'


def paths(workdir: pathlib.Path | str) -> list[pathlib.Path]:
  """The archives of all rounds that were kept, in order.

  Raises:
    ValueError: there is none.
  """
  found = sorted((pathlib.Path(workdir) / FOLDER).glob('round_*.npz'))
  if not found:
    raise ValueError(
      f'{workdir} keeps no symbols: train with config.wire.keep_every > 0 and'
      " a compressor whose symbols are masks, 'bernoulli'."
    )
  return found


def load(
  workdir: pathlib.Path | str, sizes: Sizes
) -> tuple[list[Kept], list[reading.FileError]]:
  """All rounds that were kept, in order, and what is wrong with the others.

  Raises:
    ValueError: no round was kept.
    FileError: no archive is whole; about the first of them.
  """
  rounds, damaged = [], []
  for path in paths(workdir):
    try:
      rounds.append(read(path, sizes))
    except reading.FileError as error:
      damaged.append(error)
  if not rounds:
    raise damaged[0]
  return rounds, damaged


def read(path: pathlib.Path, sizes: Sizes) -> Kept:
  """One archive, which is of just this round of just this run.

  Raises:
    FileError: anything about it is odd.
  """
  try:
    arrays = _arrays(path, sizes)
    _check(arrays, sizes, path.name)
  except (OSError, ValueError) as error:
    raise reading.FileError(path, reading.reason(error), _REMEDY) from error
  # The type depends on the damaged byte and is one of a dozen (BadZipFile,
  # zlib.error, EOFError, NotImplementedError, SyntaxError, ...).
  except Exception as error:
    reason = f'it is no whole archive ({type(error).__name__}: {error})'
    raise reading.FileError(path, reason, _REMEDY) from error
  return Kept(int(arrays.pop('round_idx')), **arrays)


def _expected(count: int, sizes: Sizes) -> dict[str, tuple[type, list[int]]]:
  """Type and shape of every array of a round with `count` clients."""
  d = sizes.num_parameters
  return {
    'round_idx': (np.int64, []),
    'ids': (np.int32, [count]),
    'q': (np.uint16, [d]),
    'symbols': (np.uint8, [count, -(-d // 8)]),
    'known_q': (np.uint16, [d]),
    'known_members': (np.bool_, [sizes.num_clients]),
  }


def _largest(sizes: Sizes) -> dict[str, int]:
  """Bytes of every array's file in an archive, at most."""
  return {
    f'{name}.npy': np.dtype(kind).itemsize * math.prod(shape) + _HEADER
    for name, (kind, shape) in _expected(sizes.clients_per_round, sizes).items()
  }


def _arrays(path: pathlib.Path, sizes: Sizes) -> dict[str, np.ndarray]:
  """The arrays of a file; what it takes is known before it is taken."""
  largest = _largest(sizes)
  with open(path, 'rb') as file:
    size, most = file.seek(0, io.SEEK_END), sum(largest.values())
    if size > most:
      raise ValueError(f'it must have at most {most:,} bytes, got {size:,}')
    with zipfile.ZipFile(file) as archive:
      members = archive.infolist()
      names = [member.filename for member in members]
      if sorted(names) != sorted(largest):
        raise ValueError(f'it must hold {sorted(largest)}, got {names[:9]}')
      for member in members:
        if member.file_size > largest[member.filename]:
          raise ValueError(
            f'{member.filename} must have at most'
            f' {largest[member.filename]:,} bytes, got {member.file_size:,}'
          )
      return {
        member.filename.removesuffix('.npy'): _array(
          member.filename, archive.read(member)
        )
        for member in members
      }


def _array(name: str, content: bytes) -> np.ndarray:
  """The array of a .npy file, never a pickled one; the bytes bound its size."""
  file = io.BytesIO(content)
  version = np.lib.format.read_magic(file)
  if version != (1, 0):
    raise ValueError(f'{name} must have version 1.0, got {version}')
  shape, by_columns, kind = np.lib.format.read_array_header_1_0(file)
  if kind.hasobject:
    raise ValueError(f'{name} must hold numbers, got the type {kind}')
  flat = np.frombuffer(content, kind, offset=file.tell())
  if flat.size != math.prod(shape):
    raise ValueError(f'{name} must hold {shape} values, got {flat.size}')
  return flat.reshape(shape, order='F' if by_columns else 'C')


def _check(arrays: dict[str, np.ndarray], sizes: Sizes, name: str) -> None:
  """Raises ValueError for the first array that the run cannot have kept."""
  ids = arrays['ids']
  for field, (kind, shape) in _expected(ids.size, sizes).items():
    array = arrays[field]
    if array.dtype != kind or list(array.shape) != shape:
      raise ValueError(
        f'{field} must be {np.dtype(kind)} {shape}, got {array.dtype}'
        f' {list(array.shape)}'
      )
  if not 1 <= ids.size <= sizes.clients_per_round:
    raise ValueError(
      f'ids must be those of 1 to {sizes.clients_per_round} clients, got'
      f' {ids.size}'
    )
  inside = (ids >= 0) & (ids < sizes.num_clients)
  if not inside.all() or len(set(ids.tolist())) < ids.size:
    raise ValueError(
      f'ids must be different ones of {sizes.num_clients} clients, got'
      f' {ids.tolist()[:20]}'
    )
  for field in ('q', 'known_q'):
    if arrays[field].min() < masks.Q_MIN:
      raise ValueError(f'{field} must be at least {masks.Q_MIN}, got 0')
  round_idx = int(arrays['round_idx'])
  if not 0 <= round_idx < sizes.num_rounds or name != _name(round_idx):
    raise ValueError(
      f'round_idx must be that of the name, and one of {sizes.num_rounds}'
      f' rounds, got {round_idx}'
    )
