"""Compressors of weight updates: laws, theory, and NumPy twins.

What every compressor promises is tested in test_every_compressor.py.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from scipy import linalg, special

from fedpm_jax import codecs, compressors, masks
from fedpm_jax.compressors import eden, levels
from fedpm_jax.prng import dithers, keys

MAKE = compressors.COMPRESSORS
KEY = keys.derive(0, keys.Purpose.UPLINK)
# Rounding only: what a key draws has no part in it.
EXACT = {'rtol': 2e-5, 'atol': 1e-6}


def layout_of(*sizes):
  names = tuple(f'layer_{i}/kernel' for i in range(len(sizes)))
  return masks.Layout(names, tuple((n,) for n in sizes), (1,) * len(sizes))


def vector(kind, size):
  rng = np.random.default_rng(size)
  x = rng.standard_normal(size)
  if kind == 'lognormal':
    x = np.exp(x) * rng.choice([-1, 1], size)
  return (0.01 * x).astype(np.float32)


def once(compressor, update, key=KEY):
  """(symbols, what arrives) of one key."""
  payload = jnp.zeros(update.size, jnp.float32)

  @jax.jit
  def both(update, key):
    symbols = compressor.compress(key, update, payload)
    return symbols, compressor.decompress(key, symbols, payload)

  return both(jnp.asarray(update), key)


def received(compressor, update, draws):
  """What arrives, one row a key, float64 [draws, d]."""
  each = keys.derive(0, keys.Purpose.UPLINK, client=np.arange(draws))
  arrive = jax.jit(jax.vmap(lambda key: once(compressor, update, key)[1]))
  return np.asarray(arrive(each), np.float64)


def nmse(got, want):
  """Of each row, relative to the squared norm."""
  return ((got - want) ** 2).sum(axis=-1) / (want.astype(np.float64) ** 2).sum()


@pytest.mark.parametrize(
  ('name', 'options'),
  [
    ('identity', {}),
    ('terngrad', {}),
    ('qsgd', {}),
    ('drive', {}),
    ('eden', {'bits': 3}),
  ],
)
def test_a_lone_parameter_is_its_own_scale(name, options):
  _, arrived = once(MAKE[name](layout_of(1), **options), np.array([-0.3], 'f4'))
  np.testing.assert_allclose(arrived, [-0.3], rtol=1e-6)


def test_a_mask_is_sent_as_it_is():
  compressor = MAKE['mask'](layout_of(3))
  mask = jnp.array([True, False, True])
  symbols = compressor.compress(KEY, mask, mask)
  np.testing.assert_array_equal(symbols, mask)
  np.testing.assert_array_equal(compressor.decompress(KEY, symbols, mask), mask)
  assert compressor.symbols_are_the_mask
  assert not compressor.mask_is_dithered


def test_sign_of_zero_is_positive():
  update = np.array([-1e-30, -0.0, 0.0, 2.0], np.float32)
  _, arrived = once(MAKE['sign'](layout_of(4)), update)
  np.testing.assert_array_equal(arrived, [False, True, True, True])


# Against NumPy --------------------------------------------------------------


def test_terngrad_is_its_numpy_twin():
  sizes = (700, 1, 400)
  update = vector('lognormal', sum(sizes))
  u = np.asarray(levels.uniform(KEY, update.size))
  want = []
  for part, draw in zip(
    codecs.base.split(update, sizes),
    codecs.base.split(u, sizes),
    strict=True,
  ):
    bound = 2.5 * np.sqrt((part.astype(np.float64) ** 2).mean())
    part = np.clip(part, -bound, bound)
    scale = np.abs(part).max()
    want.append(scale * np.sign(part) * (draw < np.abs(part) / scale))
  _, arrived = once(MAKE['terngrad'](layout_of(*sizes)), update)
  np.testing.assert_allclose(arrived, np.concatenate(want), **EXACT)


@pytest.mark.parametrize('s', [1, 5, 127])
def test_qsgd_is_its_numpy_twin(s):
  update = vector('lognormal', 1000)
  u = np.asarray(levels.uniform(KEY, 1000))
  want = []
  for start in range(0, 1000, 300):
    part, draw = update[start : start + 300], u[start : start + 300]
    norm = np.linalg.norm(part.astype(np.float64))
    exact = s * np.abs(part) / norm
    xi = np.floor(exact) + (draw < exact - np.floor(exact))
    want.append(norm * np.sign(part) * xi / s)
  compressor = MAKE['qsgd'](layout_of(400, 600), levels=s, bucket=300)
  _, arrived = once(compressor, update)
  np.testing.assert_allclose(arrived, np.concatenate(want), **EXACT)


class HadamardTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters(1, 2, 8, 64, 512)
  def test_it_is_scipys_and_its_own_inverse(self, size):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((3, size)).astype(np.float32)
    hadamard = self.variant(eden.hadamard)
    got = hadamard(rows)
    want = rows @ linalg.hadamard(size) / np.sqrt(size)
    chex.assert_type(got, np.float32)
    chex.assert_trees_all_close(got, np.float32(want), rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_close(hadamard(got), rows, rtol=1e-5, atol=1e-5)


def test_drive_is_its_numpy_twin():
  """The paper's form: signs and ||x||^2 / ||Rx||_1; the rotation from D."""
  update = vector('lognormal', 1000)
  x = np.pad(update, (0, 24)).reshape(4, 256).astype(np.float64)
  drawn = np.asarray(dithers.bits16(KEY, 5 * 256))[:1024]
  signs = np.where(drawn < 32768, -1, 1)
  rotation = linalg.hadamard(256) / 16
  rotated = (x * signs.reshape(4, 256)) @ rotation
  scales = (x**2).sum(axis=1) / np.abs(rotated).sum(axis=1)
  back = (scales[:, None] * np.where(rotated >= 0, 1, -1)) @ rotation
  want = (back * signs.reshape(4, 256)).reshape(-1)[:1000]
  for name, options in (('drive', {}), ('eden', {'bits': 1})):
    compressor = MAKE[name](layout_of(1000), chunk=256, **options)
    np.testing.assert_allclose(once(compressor, update)[1], want, **EXACT)


def test_eden_keeps_a_share_of_what_drive_keeps():
  update = vector('normal', 512)
  back = lambda x: np.asarray(eden.hadamard(x.reshape(2, 256) * signs))
  drawn = np.asarray(dithers.bits16(KEY, 3 * 256))[:512]
  signs = np.where(drawn < 32768, -1, 1)
  signs = jnp.asarray(signs.reshape(2, 256), jnp.float32)
  one, share = (
    back(once(MAKE['eden'](layout_of(512), bits=b, chunk=256), update)[1])
    for b in (1, 0.25)
  )
  kept = np.abs(share) > 1e-4
  assert kept.sum(axis=1).tolist() == [64, 64]
  np.testing.assert_allclose(share[kept], 4 * one[kept], rtol=1e-3)


@pytest.mark.parametrize('bits', eden.CENTROIDS)
def test_centroids_are_those_of_lloyd_and_max(bits):
  """Each is the mean of N(0, 1) between the midpoints of its neighbours."""
  above = np.array(eden.CENTROIDS[bits])
  assert above.size == 2 ** (bits - 1)
  ends = np.concatenate([[0], (above[1:] + above[:-1]) / 2, [np.inf]])
  density = np.exp(-(ends**2) / 2) / np.sqrt(2 * np.pi)
  means = -np.diff(density) / np.diff(special.ndtr(ends))
  np.testing.assert_allclose(above, means, atol=3e-7)


# Against theory -------------------------------------------------------------

DISTORTION = {1: 0.3634, 2: 0.1175, 3: 0.03454, 4: 0.009497}


def squared_bias(got, want):
  """Of a compressor, relative to ||want||^2, estimated without bias.

  A mean over n keys is off by the squared bias and 1 / n of the variance.  The
  second number is the estimate's standard error where there is no bias and the
  d errors are about independent: it is then that of a chi-square.
  """
  draws, size = got.shape
  one, mean = nmse(got, want).mean(), nmse(got.mean(axis=0), want)
  estimate = (draws * mean - one) / (draws - 1)
  return estimate, one / draws * np.sqrt(2 / size)


@pytest.mark.parametrize('bits', [0.5, 1, 2, 3])
@pytest.mark.parametrize('kind', ['normal', 'lognormal'])
def test_eden_has_the_error_of_theory_and_hardly_a_bias(bits, kind):
  update = vector(kind, 4096)
  got = received(MAKE['eden'](layout_of(4096), bits=bits), update, 1000)
  theory = 1 / (1 - DISTORTION[max(int(bits), 1)]) / min(bits, 1) - 1
  assert nmse(got, update).mean() == pytest.approx(theory, rel=0.015)
  estimate, error = squared_bias(got, update)
  # Some is left by a Hadamard matrix: of less than 1 % of the vector's norm.
  assert estimate < 1e-4 + 4 * error


def test_a_small_chunk_of_a_heavy_tail_has_a_bias():
  """The docstring's limit, so that it is known, not so that it stays."""
  update = vector('lognormal', 4096)
  got = received(MAKE['drive'](layout_of(4096), chunk=1024), update, 1000)
  estimate, error = squared_bias(got, update)
  assert 4 * error < estimate < 3e-3
  two = np.zeros(64, np.float32)
  two[[3, 9]] = 1.0, -0.6
  got = received(MAKE['drive'](layout_of(64)), two, 20)
  want = np.zeros((20, 64))
  want[:, 3] = 1 + 0.6**2
  np.testing.assert_allclose(got, want, atol=1e-5)


def assert_law(got, mean, variance, size):
  """Mean and variance of each of d positions, both within standard errors."""
  draws = len(got)
  z = (got.mean(axis=0) - mean) / np.sqrt(variance / draws + 1e-20)
  # 5 for the largest of some thousand, 4 for the sum of their squares.
  assert np.abs(z).max() < 5
  assert abs((z**2).mean() - 1) < 4 * np.sqrt(2 / size)
  each = ((got - mean) ** 2).sum(axis=1)
  error = each.std() / np.sqrt(draws)
  assert abs(each.mean() - variance.sum()) < 4 * error


@pytest.mark.parametrize('kind', ['normal', 'lognormal'])
def test_terngrad_follows_its_law(kind):
  update = vector(kind, 1500)
  got = received(MAKE['terngrad'](layout_of(1000, 500)), update, 4000)
  clipped, scales = [], []
  for part in np.split(update.astype(np.float64), [1000]):
    bound = 2.5 * np.sqrt((part**2).mean())
    clipped.append(np.clip(part, -bound, bound))
    scales.append(np.full(part.size, np.abs(clipped[-1]).max()))
  mean, scale = np.concatenate(clipped), np.concatenate(scales)
  certain = np.abs(mean) > 0.999 * scale
  np.testing.assert_allclose(got[0][certain], mean[certain], **EXACT)
  variance = np.abs(mean) * (scale - np.abs(mean))
  open_ = ~certain
  assert_law(got[:, open_], mean[open_], variance[open_], open_.sum())


@pytest.mark.parametrize('s', [1, 4])
@pytest.mark.parametrize('kind', ['normal', 'lognormal'])
def test_qsgd_follows_its_law(s, kind):
  bucket = 128
  update = vector(kind, 8 * bucket)
  compressor = MAKE['qsgd'](layout_of(update.size), levels=s, bucket=bucket)
  got = received(compressor, update, 4000)
  rows = update.astype(np.float64).reshape(8, bucket)
  norms = np.linalg.norm(rows, axis=1, keepdims=True)
  share = s * np.abs(rows) / norms % 1
  variance = (norms / s) ** 2 * share * (1 - share)
  assert_law(got, rows.ravel(), variance.ravel(), update.size)
  bound = min(bucket / s**2, np.sqrt(bucket) / s)
  assert (variance.sum(axis=1) <= bound * norms[:, 0] ** 2).all()


# What arrives ---------------------------------------------------------------


@pytest.mark.parametrize(
  ('name', 'options', 'bits'),
  [
    # A share p = sqrt(2 / pi) / 2.5 (or / sqrt(512)) is not 0: H2(p) + p.
    ('terngrad', {}, 1.222),
    ('qsgd', {'levels': 1}, 0.255),
    ('drive', {}, 1.0),
    ('eden', {'bits': 0.1}, 0.1),
    ('eden', {'bits': 2}, 1.911),
    ('eden', {'bits': 4}, 3.765),
  ],
)
def test_levels_take_their_entropy_on_the_wire(name, options, bits):
  size = 3 * 4096
  compressor = MAKE[name](layout_of(size - 7, 7), **options)
  symbols = np.asarray(once(compressor, vector('normal', size))[0])
  side = codecs.SideInformation(sizes=compressor.sizes)
  payload = codecs.CODECS['levels'].encode(symbols, side)
  got = 8 * (len(payload) - compressor.sizes[0])
  assert got == pytest.approx(bits * size, rel=0.03, abs=8 * 50)


@pytest.mark.parametrize(
  ('name', 'highest'), [('terngrad', 2), ('qsgd', 2), ('drive', 1)]
)
def test_what_no_client_can_have_sent_is_found(name, highest):
  compressor = MAKE[name](layout_of(8))
  for scale, level, message in [
    (1.5, highest, ''),
    (0.0, 0, ''),
    (-1.0, 0, 'a scale of -1.0, expected'),
    (np.nan, 0, 'a scale of nan'),
    (np.inf, 0, 'a scale of inf'),
    (1.0, highest + 1, f'a level of {highest + 1}, expected at most {highest}'),
  ]:
    head = np.array([scale], '<f4').view(np.uint8)
    symbols = np.concatenate([head, np.full(8, level, np.uint8)])
    problem = compressor.check(symbols)
    assert message in problem
    assert bool(message) == bool(problem)


@pytest.mark.parametrize(
  ('name', 'options'),
  [
    ('terngrad', {'clip': 0.0}),
    ('terngrad', {'clip': np.inf}),
    ('qsgd', {'levels': 0}),
    ('qsgd', {'levels': 128}),
    ('qsgd', {'bucket': 0}),
    ('eden', {'bits': 0}),
    ('eden', {'bits': 1.5}),
    ('eden', {'bits': 5}),
    ('eden', {'chunk': 48}),
    ('drive', {'chunk': 0}),
  ],
)
def test_impossible_options(name, options):
  with pytest.raises(ValueError, match='got'):
    MAKE[name](layout_of(9), **options)
