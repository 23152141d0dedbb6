"""What pictures of a run need and no row has: history.json.

It holds the labels of the clients, how theta is spread in every layer at some
20 rounds, and how many bits each tensor takes.  It stays small, however long
the run is: after round n theta is kept of every s-th round, where s is the
least power of two that leaves 20 or fewer, and of the last one that the
configuration has.  So the file is a function of the rounds that were run, not
of where they were interrupted.
"""

import json
import pathlib
from typing import Any

import numpy as np
from absl import logging

from fedpm_jax.reports import label_counts
from fedpm_jax.system import files, reading

NAME = 'history.json'
BINS = 32  # of equal width, of theta in [0, 1]
_MOST = 20
_COUNT = range(10**15)
SHAPE: reading.Shape = {
  'labels': label_counts.SHAPE,
  'theta': [{'rounds_done': range(2**32), 'layers': {str: [_COUNT]}}],
  'bits': (dict, type(None)),
}
_SHAPE_OF_BITS: reading.Shape = {
  'rounds_done': range(1, 2**32),
  'tensors': [str],
  'sizes': [range(1, 10**15)],
  'uplink': ([float], type(None)),
  'downlink': ([float], type(None)),
}
_REMEDY = (
  'Delete it: pictures do without, and a run that goes on makes another.'
)


def stride(rounds_done: int) -> int:
  """After so many rounds, theta is kept of those that are a multiple of this."""
  step = 1
  while rounds_done // step > _MOST:
    step *= 2
  return step


def is_due(rounds_done: int) -> bool:
  """Whether theta is kept after so many rounds."""
  return rounds_done % stride(rounds_done) == 0


def by_layer(theta: dict[str, np.ndarray]) -> dict[str, list[int]]:
  """How many probabilities of each layer lie in each bin.

  Args:
    theta: of `Experiment.theta`, such as {'conv_0/kernel': [3, 3, 1, 64]}.
  """
  layers: dict[str, np.ndarray] = {}
  for name, values in theta.items():
    layer = name.rpartition('/')[0] or name
    # Below 1 and a multiple of 2^-16, so that no product is rounded.
    bins = (values.ravel() * np.float32(BINS)).astype(np.uint8)
    counts = np.bincount(bins, minlength=BINS)
    layers[layer] = layers.get(layer, 0) + counts
  return {layer: counts.tolist() for layer, counts in layers.items()}


def read(path: pathlib.Path) -> dict[str, Any]:
  """The content of a history.json, of the shape `SHAPE`.

  Raises:
    FileNotFoundError: there is no such file.
    FileError: it is damaged.
  """
  found = reading.read_json(path, SHAPE, remedy=_REMEDY)
  try:
    label_counts.check(found['labels'])
    _check_theta(found['theta'])
    if found['bits'] is not None:
      _check_bits(found['bits'])
  except ValueError as error:
    raise reading.FileError(path, str(error), _REMEDY) from error
  return found


def _check_theta(entries: list[dict[str, Any]]) -> None:
  """Raises ValueError unless all are of the same layers, one after another."""
  sizes = [
    {layer: sum(counts) for layer, counts in entry['layers'].items()}
    for entry in entries
  ]
  rounds = [entry['rounds_done'] for entry in entries]
  if rounds != sorted({*rounds}) or len(rounds) > 2 * _MOST:
    raise ValueError(
      f'theta must be of at most {2 * _MOST} rounds in their order, got'
      f' {rounds[:50]}'
    )
  for entry, size in zip(entries, sizes, strict=True):
    for layer, counts in entry['layers'].items():
      if len(counts) != BINS or size != sizes[0] or not size[layer]:
        raise ValueError(
          f'theta must have {BINS} counts of each layer, and as many parameters'
          f' in all rounds, which is wrong after round {entry["rounds_done"]}'
        )


def _check_bits(bits: dict[str, Any]) -> None:
  """Raises ValueError unless there is a number for every tensor."""
  reading.check(bits, _SHAPE_OF_BITS, 'bits')
  count = len(bits['tensors'])
  for name in ('sizes', 'uplink', 'downlink'):
    values = bits[name]
    if values is not None and (len(values) != count or min([0, *values]) < 0):
      raise ValueError(
        f'bits.{name} must be {count} numbers, one for each tensor, got'
        f' {len(values)}'
      )


class Recorder:
  """Keeps the file of a run up to date, whole or as it was before."""

  def __init__(
    self, path: pathlib.Path, rounds_done: int, label_digest: dict[str, Any]
  ):
    """Goes on from the file that is there, without what is run again.

    Args:
      path: of history.json.
      rounds_done: by the checkpoint that the run goes on from; 0: a new run.
      label_digest: of `label_counts.digest`.
    """
    self._path, self._labels = path, label_digest
    self._theta: list[dict[str, Any]] = []
    self._bits: dict[str, Any] | None = None
    if not rounds_done:
      return
    try:
      found = read(path)
    except FileNotFoundError:
      return
    except reading.FileError as error:
      logging.warning('%s It has the rounds from here on.', error)
      return
    is_before = lambda entry: entry['rounds_done'] <= rounds_done
    self._theta = list(filter(is_before, found['theta']))
    if found['bits'] is not None and is_before(found['bits']):
      self._bits = found['bits']

  def add(
    self,
    rounds_done: int,
    layers: dict[str, list[int]] | None,
    bits: dict[str, Any] | None,
  ) -> None:
    """Writes the file with what is new.

    Args:
      rounds_done: by now.
      layers: of `by_layer`; None where there is no theta, or none is due.
      bits: as in `SHAPE`; None leaves those from before.
    """
    if layers is not None:
      step = stride(rounds_done)
      self._theta = [e for e in self._theta if not e['rounds_done'] % step]
      entry = {'rounds_done': rounds_done, 'layers': layers}
      self._theta = [
        *(e for e in self._theta if e['rounds_done'] < rounds_done),
        entry,
      ]
    if bits is not None:
      self._bits = bits
    content = {'labels': self._labels, 'theta': self._theta, 'bits': self._bits}
    text = json.dumps(files.to_json(content), separators=(',', ':'))
    files.write_bytes(self._path, text.encode() + b'\n')
