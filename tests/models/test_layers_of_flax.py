"""`nn.Conv` by our lowerings against `nn.Conv` as Flax computes it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from fedpm_jax.models import layers, patches
from fedpm_jax.models import lowering as lowerings
from fedpm_jax.models import network as networks

# What a layer is made with, and the images [H, W, C] that it sees.
CASES = {
  '3x3': ({'kernel_size': (3, 3)}, (8, 6, 8)),
  'few channels': ({'kernel_size': (3, 3)}, (7, 7, 3)),
  'no bias': ({'kernel_size': (3, 3), 'use_bias': False}, (4, 4, 8)),
  'strides': ({'kernel_size': (3, 3), 'strides': 2}, (9, 8, 4)),
  'uneven strides': ({'kernel_size': (3, 3), 'strides': (2, 3)}, (9, 8, 4)),
  '1x1': ({'kernel_size': (1, 1)}, (5, 4, 8)),
  '1x1 strides': ({'kernel_size': (1, 1), 'strides': 2}, (5, 4, 8)),
  '5x5': ({'kernel_size': (5, 5)}, (6, 7, 4)),
  'patches': ({'kernel_size': (4, 4), 'strides': (4, 4)}, (8, 8, 3)),
  'even': ({'kernel_size': (2, 4)}, (6, 5, 4)),
  'valid': ({'kernel_size': (3, 3), 'padding': 'VALID'}, (6, 5, 4)),
  'padding': ({'kernel_size': (3, 2), 'padding': ((0, 2), (1, 0))}, (6, 5, 4)),
  'one padding': ({'kernel_size': (5, 5), 'padding': 1}, (6, 5, 4)),
  'same by numbers': ({'kernel_size': (3, 3), 'padding': (1, 1)}, (6, 5, 8)),
  'dilation': ({'kernel_size': (3, 3), 'kernel_dilation': (2, 1)}, (9, 8, 4)),
  'groups': ({'kernel_size': (3, 3), 'feature_group_count': 2}, (6, 5, 8)),
  'strided groups': (
    {'kernel_size': (3, 3), 'feature_group_count': 4, 'strides': 2},
    (6, 5, 8),
  ),
  'depthwise': ({'kernel_size': (3, 3), 'feature_group_count': 8}, (6, 5, 8)),
  'two for each': (
    {'kernel_size': (3, 3), 'feature_group_count': 4},
    (6, 5, 4),
  ),
}
# These are left to Flax.
OTHERS = {
  'one dimension': ({'kernel_size': (3,)}, (6, 4)),
  'three dimensions': ({'kernel_size': (2, 2, 2)}, (4, 4, 4, 2)),
  'circular': ({'kernel_size': (3, 3), 'padding': 'CIRCULAR'}, (6, 5, 4)),
  'transposed': (
    {'kernel_size': (3, 3), 'input_dilation': 2, 'padding': 2},
    (6, 5, 4),
  ),
}


def both_ways(layer, shape, lowering, monkeypatch):
  """Value and gradients, ours and Flax's, and how often ours was used."""
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.standard_normal((12, *shape)), np.float32)
  params = layer.init(jax.random.key(0), x)
  params = jax.tree.map(
    lambda p: jnp.asarray(rng.standard_normal(p.shape), p.dtype), params
  )
  y = jax.eval_shape(layer.apply, params, x)
  gradient = jnp.asarray(rng.standard_normal(y.shape), y.dtype)
  calls = []
  convolve = patches.convolve

  def counted(*args, **kwargs):
    calls.append(args)
    return convolve(*args, **kwargs)

  monkeypatch.setattr(patches, 'convolve', counted)

  @jax.jit
  def by_flax(params, x, gradient):
    y, transpose = jax.vjp(layer.apply, params, x)
    return y, *transpose(gradient)

  @jax.jit
  def by_us(params, x, gradient):
    with layers.lowered(lowering):
      return by_flax.__wrapped__(params, x, gradient)

  return by_us(params, x, gradient), by_flax(params, x, gradient), len(calls)


def assert_close(ours, theirs, tolerance):
  assert jax.tree.structure(ours) == jax.tree.structure(theirs)
  for got, want in zip(
    jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True
  ):
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    got, want = np.float32(got), np.float32(want)
    assert np.linalg.norm(got - want) < tolerance * np.linalg.norm(want)


@pytest.mark.parametrize('lowering', ['im2col', 'winograd', 'mixed'])
@pytest.mark.parametrize('name', CASES)
def test_a_convolution_has_the_values_and_gradients_of_flax(
  name, lowering, monkeypatch
):
  options, shape = CASES[name]
  layer = nn.Conv(8, **options)
  ours, theirs, calls = both_ways(layer, shape, lowering, monkeypatch)
  assert calls == 1
  assert_close(ours, theirs, 5e-6)


@pytest.mark.parametrize('name', OTHERS)
def test_other_convolutions_are_left_to_flax(name, monkeypatch):
  options, shape = OTHERS[name]
  layer = nn.Conv(4, **options)
  ours, theirs, calls = both_ways(layer, shape, 'im2col', monkeypatch)
  assert calls == 0
  assert_close(ours, theirs, 1e-6)


def test_a_layer_of_shorter_type_keeps_it(monkeypatch):
  layer = nn.Conv(8, (3, 3), dtype=jnp.bfloat16)
  ours, theirs, calls = both_ways(layer, (8, 8, 8), 'winograd', monkeypatch)
  assert calls == 1
  assert_close(ours, theirs, 0.02)


class Mine(nn.Conv):
  """A subclass may do anything."""

  @nn.compact
  def __call__(self, x):
    return 2 * super().__call__(x)


def test_a_subclass_does_what_it_says(monkeypatch):
  ours, theirs, _ = both_ways(Mine(4, (3, 3)), (6, 6, 8), 'im2col', monkeypatch)
  assert_close(ours, theirs, 1e-6)


def test_groups_of_images_are_convolved_alike(monkeypatch):
  monkeypatch.setattr(lowerings.winograd, '_GROUP_BYTES', 20_000)
  layer = nn.Conv(8, (3, 3))
  assert lowerings.winograd.group_size((12, 8, 8, 8), (3, 3, 8, 8)) < 12
  ours, theirs, _ = both_ways(layer, (8, 8, 8), 'winograd', monkeypatch)
  assert_close(ours, theirs, 5e-6)


class Two(nn.Module):
  """Two convolutions and a dense layer."""

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(8, (3, 3))(x))
    x = nn.relu(nn.Conv(8, (3, 3), strides=2)(x))
    return nn.Dense(3)(x.reshape(len(x), -1))


def test_a_module_of_ones_own_has_no_grouped_convolution_where_it_is_slow():
  """XLA's convolution with a kernel for each client is a grouped one."""
  spec = networks.Spec('own', (8, 8, 2), 3, 0, 'normal', 1.4)
  images = jnp.zeros((4, 8, 8, 2), jnp.uint8)
  programs = {}
  for lowering in ('im2col', 'winograd', 'lax'):
    network = networks.build(spec, module=Two(), lowering=lowering)
    flat = jnp.zeros((3, network.layout.num_parameters))
    loss = lambda flat, network=network: jnp.sum(
      network.apply(networks.masks.unravel(network.layout, flat), images)
    )
    step = jax.jit(jax.vmap(jax.grad(loss))).lower(flat)
    programs[lowering] = step.as_text()
  assert 'convolution' in programs['lax']
  for lowering in ('im2col', 'winograd'):
    assert 'convolution' not in programs[lowering]
