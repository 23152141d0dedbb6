"""Every lowering against plain sums in float64, in value and in gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from fedpm_jax.models import lowering as lowerings
from fedpm_jax.models import winograd
from fedpm_jax.system import xla

LOWERINGS = lowerings.LOWERINGS
# Relative L2 error of one convolution or gradient.
TOLERANCE = {'lax': 2e-6, 'im2col': 2e-6, 'mixed': 2e-6, 'winograd': 5e-6}
CASES = [  # height, width, channels in, channels out
  (1, 1, 3, 8),
  (2, 2, 8, 64),
  (3, 3, 64, 3),
  (5, 9, 8, 3),
  (7, 7, 8, 8),
  (8, 8, 64, 64),
  (14, 14, 3, 8),
  (28, 28, 1, 8),
  (28, 28, 8, 8),
]


def oracle(x, kernel, gradient):
  """The convolution and its two gradients, as sums over the nine offsets."""
  x, kernel, gradient = (np.float64(a) for a in (x, kernel, gradient))
  _, height, width, _ = x.shape
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  y, d_padded, d_kernel = 0, np.zeros_like(padded), np.zeros_like(kernel)
  for i in range(3):
    for j in range(3):
      window = np.s_[:, i : i + height, j : j + width]
      y = y + padded[window] @ kernel[i, j]
      d_padded[window] += gradient @ kernel[i, j].T
      d_kernel[i, j] = np.tensordot(padded[window], gradient, ([0, 1, 2],) * 2)
  return y, d_padded[:, 1:-1, 1:-1], d_kernel


def example(rng, height, width, channels, outputs, batch=3):
  x = rng.normal(size=(batch, height, width, channels))
  kernel = rng.normal(size=(3, 3, channels, outputs))
  gradient = rng.normal(size=(batch, height, width, outputs))
  return tuple(np.float32(a) for a in (x, kernel, gradient))


def value_and_gradients(function):
  """(*arguments, gradient) -> (value, *gradients of the arguments)."""

  def both(*arguments):
    *arguments, gradient = arguments
    y, transpose = jax.vjp(function, *arguments)
    return y, *transpose(gradient)

  return both


def fast_jit(function):
  options = xla.compiler_options('cpu') | {
    'xla_llvm_disable_expensive_passes': True
  }
  return jax.jit(function, compiler_options=options)


def convolution(lowering):
  return lambda x, kernel: lowerings.conv3x3(x, kernel, lowering=lowering)


def relative_error(got, expected):
  return np.linalg.norm(got - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('lowering', LOWERINGS)
def test_convolution_and_gradients(rng, lowering, case):
  arguments = example(rng, *case)
  results = fast_jit(value_and_gradients(convolution(lowering)))(*arguments)
  for got, expected in zip(results, oracle(*arguments), strict=True):
    assert got.shape == expected.shape
    assert relative_error(got, expected) < TOLERANCE[lowering]


@pytest.mark.parametrize('size', [(14, 7), (2, 2)])
@pytest.mark.parametrize('lowering', LOWERINGS)
def test_blocks_in_a_row(rng, lowering, size):
  """Two blocks, so that tiles meet tiles, at sizes that need padding."""
  x, first, _ = example(rng, *size, 8, 8)
  _, second, _ = example(rng, 1, 1, 8, 16)
  biases = np.float32(rng.normal(size=24))

  def blocks(x, first, second, biases):
    x = lowerings.conv_block(x, first, biases[:8], pool=True, lowering=lowering)
    return lowerings.conv_block(
      x, second, biases[8:], pool=False, lowering=lowering
    )

  def plainly(x, first, second, biases):
    x = lowerings.conv3x3(x, first, lowering='lax')
    x = jax.nn.relu(x + biases[None, None, None, :8])
    window = (1, 2, 2, 1)
    x = lax.reduce_window(x, -np.inf, lax.max, window, window, 'VALID')
    x = lowerings.conv3x3(x, second, lowering='lax')
    return jax.nn.relu(x + biases[None, None, None, 8:])

  shape = (3, size[0] // 2, size[1] // 2, 16)
  gradient = np.float32(rng.normal(size=shape))
  arguments = x, first, second, biases, gradient
  expected = fast_jit(value_and_gradients(plainly))(*arguments)
  results = fast_jit(value_and_gradients(blocks))(*arguments)
  for got, want in zip(results, expected, strict=True):
    assert got.shape == want.shape
    assert relative_error(got, want) < 2e-5


def test_images_in_groups_are_convolved_alike(rng, monkeypatch):
  """A pair of convolutions, one group of images after another."""
  x, first, _ = example(rng, 6, 5, 3, 8, batch=12)
  _, second, _ = example(rng, 1, 1, 8, 16)
  arguments = x, first, second, np.float32(rng.normal(size=24))
  gradient = np.float32(rng.normal(size=(12, 3, 2, 16)))

  def pair(x, first, second, biases):
    parameters = (first, biases[:8]), (second, biases[8:])
    return lowerings.conv_pair(x, parameters, lowering='winograd')

  def results():
    step = fast_jit(value_and_gradients(pair)).lower(*arguments, gradient)
    compiled = step.compile()
    return ' while(' in compiled.as_text(), compiled(*arguments, gradient)

  loops, together = results()
  assert not loops
  size = winograd.group_size(x.shape, second.shape)
  assert size == 12
  monkeypatch.setattr(winograd, '_GROUP_BYTES', 40_000)
  assert winograd.group_size(x.shape, second.shape) == 3
  loops, in_groups = results()
  assert loops
  for got, want in zip(in_groups, together, strict=True):
    assert relative_error(got, want) < 5e-6


@pytest.mark.parametrize('lowering', LOWERINGS)
def test_zero_gradients_stay_zero(rng, lowering):
  """Adam turns noise into steps, so what is exactly 0 must not become noise."""
  x, kernel, gradient = example(rng, 8, 8, 64, 64)
  x[:, 1::2] = 0  # rows of x and of the gradient never touch but in the middle
  gradient[:, 1::2] = 0
  _, _, expected = oracle(x, kernel, gradient)
  assert np.all(expected[[0, 2]] == 0)
  *_, got = fast_jit(value_and_gradients(convolution(lowering)))(
    x, kernel, gradient
  )
  assert np.mean(got[np.array([0, 2])] != 0) < 1e-3
  assert relative_error(got, expected) < TOLERANCE[lowering]


@pytest.mark.parametrize('lowering', LOWERINGS)
def test_one_kernel_per_client(rng, lowering):
  """vmap, lax.map and shard_map over clients equal a loop over clients."""
  examples = [example(rng, 4, 4, 8, 8) for _ in range(4)]
  one = value_and_gradients(convolution(lowering))
  expected = [fast_jit(one)(*arguments) for arguments in examples]
  stacked = [np.stack(a) for a in zip(*examples, strict=True)]

  def in_turn(*arguments):
    return lax.map(lambda a: one(*a), arguments)

  mesh = jax.make_mesh((2,), ('clients',))
  sharded = jax.shard_map(
    in_turn,
    mesh=mesh,
    in_specs=P('clients'),
    out_specs=P('clients'),
    check_vma=False,
  )
  on_mesh = jax.device_put(stacked, jax.NamedSharding(mesh, P('clients')))
  for results in (
    fast_jit(jax.vmap(one))(*stacked),
    fast_jit(in_turn)(*stacked),
    fast_jit(sharded)(*on_mesh),
  ):
    for i, wanted in enumerate(expected):
      for got, want in zip(results, wanted, strict=True):
        assert relative_error(np.asarray(got)[i], want) < TOLERANCE[lowering]


def test_compiler_options_keep_the_barriers(rng):
  """Fast Winograd needs an undocumented option; this says when it is gone."""
  x, kernel, gradient = example(rng, 8, 8, 8, 8)
  step = jax.jit(value_and_gradients(convolution('winograd')))
  step = step.lower(x, kernel, gradient)
  options = xla.compiler_options('cpu')
  kept = step.compile(compiler_options=options)
  assert 'opt-barrier' in kept.as_text()
  assert 'opt-barrier' not in step.compile().as_text()
  for got, expected in zip(
    kept(x, kernel, gradient), oracle(x, kernel, gradient), strict=True
  ):
    assert relative_error(got, expected) < TOLERANCE['winograd']


def test_compiler_options_are_for_the_cpu():
  assert xla.compiler_options('cpu')
  assert not xla.compiler_options('gpu')


def test_winograd_is_for_float32():
  resolve = lowerings.resolve
  assert resolve('auto', 'cpu', dtype='bfloat16') == 'im2col'
  assert resolve('auto', 'gpu', dtype='bfloat16') == resolve('auto', 'gpu')
  with pytest.raises(ValueError, match='bfloat16, expected float32'):
    resolve('winograd', dtype='bfloat16')


def test_resolve():
  for name in LOWERINGS:
    assert lowerings.resolve(name, 'cpu') == name
  assert lowerings.resolve('auto', 'cpu') == 'winograd'
  assert lowerings.resolve('auto', 'gpu') == 'mixed'
  assert lowerings.resolve('auto', 'tpu') == 'im2col'
  assert lowerings.resolve('auto') in LOWERINGS


def test_bad_names_and_shapes():
  with pytest.raises(ValueError, match="got 'fft', expected"):
    lowerings.resolve('fft')
  with pytest.raises(ValueError, match="got 'abacus', expected"):
    lowerings.resolve('auto', 'abacus')
  image = jnp.zeros((1, 4, 4, 2))
  for x, kernel in [
    (image, jnp.zeros((3, 3, 3, 5))),
    (image, jnp.zeros((5, 5, 2, 5))),
    (image[0], jnp.zeros((3, 3, 2, 5))),
  ]:
    with pytest.raises(ValueError, match='expected'):
      lowerings.conv3x3(x, kernel, lowering='auto')
