"""Checkpoints of the whole state (orbax), and whether a run may go on from one.

A checkpoint is a folder `checkpoints/<rounds done>`.  Its `state` holds the
server's state, the clients' states and who holds which theta, as few bytes
(`packing`), its `metrics.jsonl` the rows until then.  Its `run.json` holds the
next round, what determines the run, and checksums: of every array as it was, of
the rows, and of itself.
Randomness is derived from the seed, so that a run that was killed continues bit
for bit, whatever happened to its other files.

Orbax writes and reads the arrays (`arrays`).  Which checkpoints there are, their
renaming and their checks are done here, because a damaged one must not hide the
one before it.
"""

import json
import pathlib
import re
import sys
import zlib
from concurrent import futures
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from fedpm_jax.experiments import arrays, packing
from fedpm_jax.experiments import config as configs
from fedpm_jax.reports import records
from fedpm_jax.system import files, reading

FOLDER = 'checkpoints'
_RUN, _ROWS = 'run.json', 'metrics.jsonl'
_OLD = 'It is damaged, or of an older version.'
_SHAPE = {
  'content': {
    'next_round': int,
    'config': {},
    'rows_crc32': str,
    'arrays': {str: {'type': str, 'crc32': str}},
    'tables': [packing.SHAPE],
  },
  'crc32': str,
}


class Restored(NamedTuple):
  """What a checkpoint gave back.

  Attributes:
    state: of the run.
    next_round: 0-based.
    rows: of metrics.jsonl, one for each round before.
  """

  state: Any
  next_round: int
  rows: list[dict[str, Any]]


def is_due(round_idx: int, *, every: int, last: int) -> bool:
  """Whether something done every n rounds is due after round `round_idx`.

  True after each n-th round (round_idx + 1 a multiple of n) and after the last
  one; `every` = 0 leaves the last one only.
  """
  return round_idx == last or (every > 0 and (round_idx + 1) % every == 0)


def restore(
  folder: pathlib.Path, like: Any, config: dict[str, Any]
) -> Restored | None:
  """The newest checkpoint that is whole; None where there is none at all.

  A damaged one is told of, and the one before it is used.  Nothing is written.

  Args:
    folder: of the run.
    like: the state that is expected: its structure, shapes and dtypes.
    config: of this run, as `build.describe` makes it.

  Raises:
    FileError: there are checkpoints, and none of them can be used.
    ValueError: naming every entry in which the checkpoint's configuration
      differs, or an array whose shape or dtype does.
  """
  numbers = _numbers(folder / FOLDER)
  problems = []
  for number in numbers:
    path = folder / FOLDER / str(number)
    try:
      restored = _read(path, like, config)
    except reading.FileError as error:
      problems.append(str(error))
      continue
    for problem in problems:
      logging.warning('%s The checkpoint of round %d is used.', problem, number)
    return restored
  if _numbers(folder / FOLDER) != numbers:  # A run has replaced them meanwhile.
    return restore(folder, like, config)
  if numbers:
    raise reading.FileError(
      folder / FOLDER,
      f'no checkpoint can be used ({" ".join(problems)})',
      'Delete this folder to start again at round 1, or use a new --workdir.',
    )
  return None


def newest(folder: pathlib.Path) -> int:
  """After which round a run's newest checkpoint was written; 0: there is none.

  Args:
    folder: of the run.
  """
  return max(_numbers(folder / FOLDER), default=0)


class Writer:
  """Writes the checkpoints of one run, in the background."""

  def __init__(self, folder: pathlib.Path, *, next_round: int, keep: int = 2):
    """Makes the folder `checkpoints`.

    Args:
      folder: of the run, which nobody else writes to.
      keep: how many checkpoints stay.
      next_round: where the run goes on.  Newer checkpoints are damaged, so they
        are removed: they must not count among those that are kept.
    """
    self._folder = folder / FOLDER
    self._folder.mkdir(parents=True, exist_ok=True)
    for number in _numbers(self._folder):
      if number > next_round:
        _remove(self._folder / str(number))
    self._keep = keep
    self._thread = futures.ThreadPoolExecutor(1, 'checkpoints')
    self._pending: futures.Future | None = None

  def save(
    self,
    state: Any,
    next_round: int,
    config: dict[str, Any],
    recorded: records.Mark,
  ) -> None:
    """Starts to write a checkpoint; it is complete, or not there at all.

    Args:
      state: after round `next_round - 1`.
      next_round: 0-based.
      config: as `build.describe` makes it.
      recorded: the rows until then.

    Raises:
      OSError: the one before could not be written.
    """
    self.wait()
    # Copies, because the next round consumes the state.
    state = jax.tree.map(np.array, state)
    content = {
      'next_round': next_round,
      'config': files.to_json(config),
      'rows_crc32': recorded.crc32,
    }
    self._pending = self._thread.submit(
      _write, self._folder, state, content, recorded, self._keep
    )

  def check(self) -> None:
    """Raises the error of `wait` where it is known already."""
    if self._pending is not None and self._pending.done():
      self.wait()

  def wait(self) -> None:
    """Waits for what is being written.

    Raises:
      OSError: it could not be written; the checkpoints before it are untouched.
    """
    pending, self._pending = self._pending, None
    if pending is None:
      return
    try:
      pending.result()
    except Exception as error:
      raise OSError(
        f'A checkpoint in {self._folder} could not be written'
        f' ({arrays.reason(error)}). The checkpoints before it are untouched.'
      ) from error

  def close(self) -> None:
    """Waits for what is being written, as `wait` does, and ends the thread.

    Where another error is on its way, that one is told of by a warning.
    """
    is_failing = sys.exc_info()[1] is not None
    try:
      self.wait()
    except OSError as error:
      if not is_failing:
        raise
      logging.warning('%s', error)
    finally:
      self._thread.shutdown()


def differences(
  saved: dict[str, Any], current: dict[str, Any], prefix: str = ''
) -> list[str]:
  """Every entry in which two nested configs differ: 'key: 1 there, 2 here'."""
  changes = []
  for key in sorted(saved.keys() | current.keys()):
    name = f'{prefix}{key}'
    old, new = saved.get(key, '(absent)'), current.get(key, '(absent)')
    if isinstance(old, dict) and isinstance(new, dict):
      changes += differences(old, new, f'{name}.')
    elif old != new:
      changes.append(f'{name}: {old!r} there, {new!r} here')
  return changes


def _numbers(folder: pathlib.Path) -> list[int]:
  """After how many rounds there are checkpoints, the newest first."""
  try:
    names = [path.name for path in folder.iterdir()]
  except (FileNotFoundError, NotADirectoryError):
    return []
  # Text such as '007' and '²' is none of our names.
  return sorted(int(n) for n in names if re.fullmatch('[1-9][0-9]*', n))[::-1]


def _write(
  folder: pathlib.Path,
  state: Any,
  content: dict[str, Any],
  recorded: records.Mark,
  keep: int,
) -> None:
  """Writes a checkpoint under a temporary name, renames it, removes old ones."""
  next_round = content['next_round']
  path = folder / str(next_round)
  temporary = files.temporary_name(path)
  try:
    temporary.mkdir()
    packed, tables = packing.pack(state)
    arrays.write(temporary / 'state', packed)
    with open(recorded.path, 'rb') as file:
      files.write_bytes(temporary / _ROWS, file.read(recorded.size))
    sums = arrays.checksums(state)
    content = content | {'arrays': sums, 'tables': tables}
    whole = {'content': content, 'crc32': _crc32(content)}
    files.write_json(temporary / _RUN, whole)
    _remove(path)  # A damaged one of this name may be there.
    temporary.rename(path)
  finally:
    files.remove(temporary)
  for number in _numbers(folder)[keep:]:
    _remove(folder / str(number))


def _remove(path: pathlib.Path) -> None:
  """Removes a checkpoint; a crash leaves no half of it under its name."""
  temporary = files.temporary_name(path)
  if path.exists():
    path.rename(temporary)
    files.remove(temporary)


def _read(path: pathlib.Path, like: Any, config: dict[str, Any]) -> Restored:
  """Reads a checkpoint; see `restore` for the errors."""
  try:
    run = reading.read_json(path / _RUN, _SHAPE, remedy=_OLD)
  except FileNotFoundError as error:
    raise reading.FileError(
      path, f'there is no {_RUN}: damaged, or of version 0.2.0 or older'
    ) from error
  content = run['content']
  if run['crc32'] != _crc32(content) or path.name != str(content['next_round']):
    raise reading.FileError(path / _RUN, 'its checksum does not match')
  changes = differences(
    configs.deciding(content['config']), configs.deciding(config)
  )
  if changes:
    raise ValueError(
      f'The checkpoint {path} was written with another config:'
      f' {"; ".join(changes)}. Use the same config, or a new --workdir.'
    )
  types = {name: array['type'] for name, array in content['arrays'].items()}
  changes = differences(types, arrays.types(like))
  if changes:
    raise ValueError(
      f'The checkpoint {path} does not fit: {"; ".join(changes)}. Use a new'
      ' --workdir.'
    )
  state = _read_state(path / 'state', like, content['tables'])
  found = arrays.checksums(state)
  for name, array in content['arrays'].items():
    if found[name] != array:
      raise reading.FileError(
        path / 'state', f'the checksum of {name} does not match'
      )
  # Without a device: a round spreads them over all.
  state = jax.tree.map(jnp.asarray, state)
  return Restored(state, content['next_round'], _read_rows(path, content))


def _read_state(
  path: pathlib.Path, like: Any, tables: list[packing.Table]
) -> Any:
  """The state of a checkpoint; FileError where it is damaged."""
  try:
    packed = arrays.read(path, packing.expected(like, tables))
    return packing.unpack(packed, tables, like)
  except reading.FileError:
    raise
  except (ValueError, IndexError) as error:
    raise reading.FileError(path, str(error)) from error


def _read_rows(
  path: pathlib.Path, content: dict[str, Any]
) -> list[dict[str, Any]]:
  """The rows of a checkpoint; FileError unless they are those of its run.json."""
  rows = records.read_rows(path / _ROWS)
  is_same = records.checksum(rows) == content['rows_crc32']
  if not is_same or len(rows) != content['next_round']:
    raise reading.FileError(path / _ROWS, 'its checksum does not match')
  return rows


def _crc32(content: dict[str, Any]) -> str:
  """Of JSON, whatever the order of its keys is."""
  return f'{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}'
