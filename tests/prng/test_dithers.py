"""Dithers: the generator's published values, its stream, its uniformity."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from hypothesis import given
from hypothesis import strategies as st

from fedpm_jax.prng import dithers, keys, threefry

KEY = keys.derive(7, keys.Purpose.UPLINK, round_idx=3, client=11)
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)


@pytest.mark.parametrize(
  ('counter', 'key', 'expected'),
  [
    ((0, 0), (0, 0), (0x9D1C5EC6, 0x8BD50731)),
    ((2**32 - 1,) * 2, (2**32 - 1,) * 2, (0xFD36D048, 0x2D17272C)),
    (PI[:2], PI[2:], (0xBA3E4725, 0xF27D669E)),
  ],
)
def test_known_answers_of_random123(counter, key, expected):
  """Its kat_vectors, `threefry2x32 13`."""
  words = lambda pair: tuple(np.array([word], np.uint32) for word in pair)
  got = threefry.threefry2x32(words(key), words(counter), rounds=13)
  assert tuple(int(word[0]) for word in got) == expected


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_with_20_rounds_it_is_that_of_jax(seed, count):
  key = jax.random.key(np.uint32(seed), impl='threefry2x32')
  counter = np.zeros(count, np.uint32), np.arange(count, dtype=np.uint32)
  words = np.asarray(jax.random.key_data(key)).reshape(2, 1)
  a, b = threefry.threefry2x32(tuple(words), counter, rounds=20)
  expected = jax.random.bits(key, (count,), jnp.uint32)
  np.testing.assert_array_equal(a ^ b, expected)


# Of KEY: the first four of 1,000, and the first of the words' upper halves.
GOLDEN = [25917, 4070, 56011, 58631]
GOLDEN_UPPER = 23216


def test_golden_stream():
  """Formats depend on it: a new stream needs new versions of them."""
  u = np.asarray(dithers.bits16(KEY, 1000))
  chex.assert_type(u, np.uint16)
  assert u[:4].tolist() == GOLDEN
  assert u[512] == GOLDEN_UPPER


class StreamTest(chex.TestCase):
  """Clients draw in a compiled round, other programs may draw outside it."""

  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters(1, 2, 63, 64, 65, 127, 128, 129, 1001)
  def test_it_is_that_of_plain_numpy(self, size):
    count = -(-size // 128) * 64
    words = np.asarray(jax.random.key_data(KEY))
    counter = np.arange(count, dtype=np.uint32), np.zeros(count, np.uint32)
    word, _ = threefry.threefry2x32((words[0], words[1]), counter, rounds=13)
    expected = np.concatenate([word & 0xFFFF, word >> 16])[:size]
    got = self.variant(dithers.bits16, static_argnums=1)(KEY, size)
    chex.assert_trees_all_equal(got, expected.astype(np.uint16), strict=True)

  @chex.variants(with_jit=True, without_jit=True)
  def test_many_keys_at_once_are_each_of_them(self):
    many = jax.vmap(lambda i: jax.random.fold_in(KEY, i))(jnp.arange(3))
    got = self.variant(jax.vmap(lambda key: dithers.bits16(key, 200)))(many)
    each = np.stack([dithers.bits16(key, 200) for key in many])
    chex.assert_trees_all_equal(got, each, strict=True)
    assert len({tuple(row) for row in got.tolist()}) == 3


def test_every_bit_is_fair_and_neighbours_are_independent():
  n = 2**18
  u = np.asarray(dithers.bits16(KEY, n))
  bits = (u[:, None] >> np.arange(16, dtype=np.uint16)) & 1
  signs = 2.0 * bits - 1
  bound = 5 / n**0.5  # standard errors
  assert abs(signs.mean(axis=0)).max() < bound
  # Within a dither, with the next one, and with the other half of its word.
  for other in (signs, np.roll(signs, 1, axis=0), np.roll(signs, n // 2, 0)):
    correlation = signs.T @ other / n
    if other is signs:
      correlation -= np.eye(16)
    assert abs(correlation).max() < bound
  counts = np.bincount(u, minlength=2**16)
  chi_square = ((counts - 4) ** 2 / 4).sum()
  degrees = 2**16 - 1
  assert abs(chi_square - degrees) < 5 * (2 * degrees) ** 0.5
