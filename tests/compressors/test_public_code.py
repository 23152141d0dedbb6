"""DRIVE and EDEN against the authors' own code, on equal inputs; by hand.

Their PyTorch files are read from checkouts that two variables name, and nothing
of them is in this repository:

    git clone https://github.com/amitport/DRIVE-One-bit-Distributed-Mean-Estimation
    git clone https://github.com/amitport/EDEN-Distributed-Mean-Estimation
    pip install torch
    FEDPM_DRIVE_CODE=DRIVE-... FEDPM_EDEN_CODE=EDEN-... \
        python -m pytest tests/compressors/test_public_code.py

Last run with torch 2.13 on a CPU, both checkouts of 2026-11: all passed, that
is, the same signs and levels but where a coordinate lies on a border to
rounding, and estimates that agree to 1e-5 of the vector's norm.
"""

import importlib.util
import os
import pathlib
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from fedpm_jax import masks
from fedpm_jax.compressors import eden, levels
from fedpm_jax.prng import dithers, keys

SIZE = 1024
LAYOUT = masks.Layout(('dense/kernel',), ((SIZE, 1),), (SIZE,))
VECTORS = ('normal', 'lognormal')


def _checkout(variable):
  folder = os.environ.get(variable)
  if not folder:
    pytest.skip(f'set ${variable}, see above')
  return pathlib.Path(folder)


def _vector(kind):
  return getattr(np.random.default_rng(0), kind)(size=SIZE).astype(np.float32)


def _ours(key, vector, bits):
  """What is sent and what arrives, and the signs D that were drawn."""
  made = eden.eden(LAYOUT, bits=bits)
  symbols = made.compress(key, jnp.asarray(vector), jnp.zeros(SIZE))
  scales, index = levels.split(symbols, 1)
  arrived = made.decompress(key, symbols, jnp.zeros(SIZE))
  drawn = np.asarray(dithers.bits16(key, 2 * SIZE))[:SIZE]
  signs = np.where(drawn < masks.SCALE // 2, -1, 1).astype(np.float32)
  return np.asarray(scales)[0], np.asarray(index), np.asarray(arrived), signs


def _close(arrived, theirs, vector):
  gap = np.linalg.norm(arrived - np.asarray(theirs)) / np.linalg.norm(vector)
  assert gap < 1e-5


@pytest.mark.parametrize('kind', VECTORS)
def test_drive_is_the_authors(kind):
  folder = _checkout('FEDPM_DRIVE_CODE') / 'drive_torch'
  torch = pytest.importorskip('torch')
  spec = importlib.util.spec_from_file_location('drive', folder / 'drive.py')
  drive = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(drive)
  vector = _vector(kind)
  key = keys.derive(0, keys.Purpose.UPLINK)
  scale, index, arrived, signs = _ours(key, vector, 1)
  sent, their_scale = drive.drive_compress(torch.tensor(vector * signs))
  assert np.mean((index == 1) == (sent.numpy() > 0)) > 0.999
  # Ours stands before centroids +-0.798 in place of +-1, and z is not Rx.
  unit = eden.CENTROIDS[1][0]
  assert scale * unit == pytest.approx(float(their_scale), rel=1e-5)
  theirs = drive.drive_decompress(sent, their_scale).numpy() * signs
  _close(arrived, theirs, vector)


@pytest.mark.parametrize('kind', VECTORS)
@pytest.mark.parametrize('bits', [1, 2, 3, 4])
def test_eden_is_the_authors(kind, bits, monkeypatch):
  folder = _checkout('FEDPM_EDEN_CODE') / 'torch'
  torch = pytest.importorskip('torch')
  monkeypatch.syspath_prepend(str(folder))
  for name in ('base', 'eden', 'hadamard'):
    monkeypatch.delitem(sys.modules, name, raising=False)
  theirs = importlib.import_module('eden')
  hadamard = importlib.import_module('hadamard').hadamard_transform_
  vector = _vector(kind)
  key = keys.derive(0, keys.Purpose.UPLINK)
  _, index, arrived, signs = _ours(key, vector, bits)
  quantise = theirs.EdenQuantization(bits)
  levels_sent, context = quantise.forward(
    hadamard(torch.tensor(vector * signs))
  )
  assert np.mean(index == levels_sent.numpy()) > 0.999
  estimate, _ = quantise.backward(levels_sent, context)
  _close(arrived, hadamard(estimate).numpy() * signs, vector)
