"""Relative-entropy coding: the law of the masks, and the rate."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedpm_jax import codecs, compressors, masks
from fedpm_jax.compressors import relative_entropy
from fedpm_jax.prng import keys

MAKE = compressors.COMPRESSORS['relative_entropy']


def layout_of(size):
  return masks.Layout(('layer/kernel',), ((size,),), (1,))


def q_of(theta):
  return masks.quantise(jnp.asarray(theta, jnp.float32))


def received(compressor, theta_k, theta_g, draws):
  """Masks that a server decodes, one a key, bool [draws, d]; and symbols."""

  def once(client_key):
    symbols = compressor.compress(client_key, theta_k, theta_g)
    return compressor.decompress(client_key, symbols, theta_g), symbols

  each = keys.derive(0, keys.Purpose.UPLINK, client=np.arange(draws))
  return jax.tree.map(np.asarray, jax.jit(jax.vmap(once))(each))


def law(theta_k, theta_g, candidates):
  """P(mask) of one block of d positions, by summing over all candidate sets."""
  p, r = np.asarray(theta_k) / 65536, np.asarray(theta_g) / 65536
  rows = np.array(list(itertools.product([0, 1], repeat=len(p))), bool)
  proposal = np.where(rows, r, 1 - r).prod(axis=1)
  weight = (np.where(rows, p, 1 - p) / np.where(rows, r, 1 - r)).prod(axis=1)
  result = np.zeros(len(rows))
  for drawn in itertools.product(range(len(rows)), repeat=candidates):
    drawn = list(drawn)
    share = weight[drawn] / weight[drawn].sum()
    np.add.at(result, drawn, proposal[drawn].prod() * share)
  return rows, result


@pytest.mark.parametrize('candidates', [2, 3, 4])
def test_masks_follow_the_law_of_the_importance_sampler(candidates):
  theta_k, theta_g = q_of([0.9, 0.3]), q_of([0.5, 0.6])
  compressor = MAKE(
    layout_of(2), cell=2, candidates=candidates, target_bits=1e-6
  )
  draws = 20_000
  got, _ = received(compressor, theta_k, theta_g, draws)
  rows, expected = law(theta_k, theta_g, candidates)
  assert expected.sum() == pytest.approx(1)
  for row, p in zip(rows, expected, strict=True):
    share = (got == row).all(axis=1).mean()
    assert abs(share - p) < 4 * np.sqrt(p * (1 - p) / draws)


def test_the_bias_vanishes_with_more_candidates():
  """Per-bit frequencies against theta_k, within 4 standard errors."""
  rng = np.random.default_rng(0)
  d, draws = 6, 4000
  theta_g = q_of(rng.uniform(0.2, 0.8, d))
  theta_k = masks.quantise(
    jax.nn.sigmoid(masks.scores_of(theta_g) + rng.normal(0, 0.7, d))
  )
  p, r = np.asarray(theta_k) / 65536, np.asarray(theta_g) / 65536
  moved = {}
  for candidates in (2, 8, 512):
    compressor = MAKE(
      layout_of(d), cell=d, candidates=candidates, target_bits=1e-6
    )
    got, _ = received(compressor, theta_k, theta_g, draws)
    # The share of the client's step that arrives.
    moved[candidates] = (got.mean(axis=0) - r) @ (p - r) / ((p - r) @ (p - r))
  assert moved[2] < moved[8] < moved[512]
  error = 4 * np.sqrt(p * (1 - p) / draws)
  assert (np.abs(got.mean(axis=0) - p) < error).all()


def test_the_smallest_steps_have_no_negative_divergence():
  for b in (655, 20000, 64881):
    for step in (-2, -1, 0, 1, 2):
      q = lambda x: jnp.full(1, x, jnp.uint16)
      got = float(relative_entropy.divergence(q(b + step), q(b))[0])
      p, r = (b + step) / 65536, b / 65536
      exact = p * np.log2(p / r) + (1 - p) * np.log2((1 - p) / (1 - r))
      assert 0 <= got < 1e-6
      assert got == pytest.approx(exact, abs=3e-8)


def test_cells_meet_all_channels():
  """The cells' relative entropies stay alike where one channel moves only."""
  size, channels = 896 * 64, 64
  moved = np.arange(size) % channels == 5
  compressor = MAKE(layout_of(size), cell=64, candidates=16)
  q, key = jnp.zeros(size, jnp.uint16), keys.derive(0, keys.Purpose.UPLINK)
  cells = jax.eval_shape(compressor.compress, key, q, q).size - 1
  padded = np.pad(moved, (0, 64 * cells - size)).reshape(64, cells)
  assert padded.sum(axis=0).max() <= 2
  with_factor = moved.reshape(64, 896)
  assert with_factor.sum(axis=0).max() == 64  # what an even number would do


@pytest.mark.parametrize(
  ('symbols', 'message'),
  [
    ([16, 1, 1, 1], '2^16 cells'),
    ([0, 1, 8, 1], 'index of 8, expected'),
    ([1, 1, 1, 1], 'beyond the 2 blocks'),
    ([1, 7, 7, 0], ''),
  ],
)
def test_what_no_client_can_have_sent_is_found(symbols, message):
  compressor = MAKE(layout_of(24), cell=8, candidates=8)
  problem = compressor.check(np.array(symbols, np.uint16))
  assert message in problem
  assert bool(message) == bool(problem)


def test_no_step_is_no_bias():
  theta = q_of(np.linspace(0.05, 0.95, 50))
  draws = 4000
  got, symbols = received(
    MAKE(layout_of(50), cell=25, candidates=8), theta, theta, draws
  )
  p = np.asarray(theta) / 65536
  assert (np.abs(got.mean(axis=0) - p) < 4 * np.sqrt(p * (1 - p) / draws)).all()
  assert (symbols[:, 0] == 15).all()  # nothing to say: the largest blocks


def drift(rng, size, std):
  logits = 2 * rng.standard_normal(size)
  theta = lambda x: masks.quantise(jax.nn.sigmoid(jnp.asarray(x, jnp.float32)))
  return theta(logits + std * rng.standard_normal(size)), theta(logits)


@pytest.mark.parametrize('size', [1, 511, 512, 5000])
@pytest.mark.parametrize('std', [0.02, 0.3, 3.0])
def test_blocks_hold_what_they_are_meant_to_hold(rng, size, std):
  theta_k, theta_g = drift(rng, size, std)
  compressor = MAKE(layout_of(size), cell=64, candidates=16, target_bits=3.0)
  key = keys.derive(0, keys.Purpose.UPLINK)
  symbols = np.asarray(compressor.compress(key, theta_k, theta_g))
  cells = -(-size // 64) | 1
  assert symbols.shape == compressor.sizes == (1 + cells,)
  assert symbols[1:].max() < 16
  bits = float(relative_entropy.divergence(theta_k, theta_g).sum()) / cells
  block = 2 ** int(symbols[0])
  assert block == 1 or bits * block <= 3.0
  assert bits * 2 * block > 3.0 or block == 2**15
  blocks = -(-cells // block)
  assert not symbols[1 + blocks :].any()
  # On the wire: a width, a count and four bits a block.
  side = codecs.SideInformation(sizes=(symbols.size,))
  payload = codecs.CODECS['index'].encode(symbols, side)
  assert len(payload) <= 5 + (4 * (1 + blocks) + 7) // 8


def test_the_mask_is_nearer_to_the_client_than_a_fresh_one(rng):
  theta_k, theta_g = drift(rng, 20_000, 0.4)
  compressor = MAKE(layout_of(20_000), cell=128, candidates=128)
  got, _ = received(compressor, theta_k, theta_g, 20)
  p, r = np.asarray(theta_k) / 65536, np.asarray(theta_g) / 65536
  arrived = (got.mean(axis=0) - r) @ (p - r) / ((p - r) @ (p - r))
  assert 0.7 < arrived < 1.1


@pytest.mark.parametrize(
  'options', [{'cell': 0}, {'candidates': 1}, {'target_bits': 0.0}]
)
def test_impossible_options(options):
  with pytest.raises(ValueError, match='got'):
    MAKE(layout_of(9), **options)
