"""The room of Winograd: its matrices, and the change to tiles and back."""

import fractions

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpm_jax.models import winograd


@pytest.mark.parametrize('tile', [2, 4])
def test_matrices_make_a_correlation(tile):
  """A^T [(G k) * (B^T d)] in exact fractions, on all pairs of unit vectors."""
  exact = np.vectorize(lambda c: fractions.Fraction(c).limit_denominator(24))
  bt, g, at = (exact(np.float64(m)) for m in winograd.TRANSFORMS[tile])
  assert bt.shape == (tile + 2, tile + 2)
  for tap in range(3):
    for pixel in range(tile + 2):
      got = at @ (g[:, tap] * bt[:, pixel])
      assert list(got) == [out + tap == pixel for out in range(tile)]


@pytest.mark.parametrize('tile', [2, 4])
@pytest.mark.parametrize('size', [(1, 1), (4, 8), (5, 6)])
def test_tiles_and_back(rng, tile, size):
  x = np.float32(rng.normal(size=(3, *size, 2)))
  tiles = winograd.to_tiles(x, tile)
  rows, columns = (-(-n // tile) for n in size)
  assert tiles.shape == (tile, tile, rows, columns, 3, 2)
  np.testing.assert_array_equal(winograd.from_tiles(tiles, *size), x)
  assert np.sum(tiles != 0) == np.sum(x != 0)  # padded with zeros
  height, width = size[0] - 1, size[1] - 1  # the last pixel, wherever it is
  np.testing.assert_array_equal(
    tiles[height % tile, width % tile, height // tile, width // tile],
    x[:, height, width],
  )


def test_small_images_get_small_tiles():
  assert winograd.tile_size(2, 2) == winograd.tile_size(1, 2) == 2
  assert winograd.tile_size(3, 2) == winograd.tile_size(32, 32) == 4


@given(
  batch=st.integers(1, 300),
  side=st.integers(2, 64),
  inputs=st.sampled_from([3, 32, 64, 256]),
  outputs=st.sampled_from([32, 64, 128, 512]),
)
def test_groups_divide_the_batch_and_fit(batch, side, inputs, outputs):
  shapes = (batch, side, side, inputs), (3, 3, inputs, outputs)
  size = winograd.group_size(*shapes)
  assert batch % size == 0
  if size < batch:
    tile = winograd.tile_size(side, side)
    products = 4 * (tile + 2) ** 2
    tiles = (-(-side // tile)) ** 2
    fits = winograd._GROUP_BYTES / (products * tiles * (inputs + outputs))
    assert size <= 2 * fits
    assert batch >= 2 * size
    assert products * inputs * outputs <= winograd._GROUP_BYTES


def test_groups_of_the_networks_of_the_paper():
  """CONV-6, batch 128: what was measured; see docs/performance.md."""
  pairs = (32, 64), (16, 128), (8, 256)
  sizes = [
    winograd.group_size((128, side, side, width), (3, 3, width, width))
    for side, width in pairs
  ]
  assert sizes == [4, 8, 128]
  assert winograd.group_size((10, 32, 32, 32), (3, 3, 32, 64)) == 10
