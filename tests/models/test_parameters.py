"""Which parameters are masked, at which scale, and what the others are."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from fedpm_jax import masks
from fedpm_jax.models import network as networks
from fedpm_jax.models import parameters
from fedpm_jax.prng import keys

ONE = jax.ShapeDtypeStruct((1, 4, 4, 6), jnp.float32)
SPEC = networks.Spec('own', (4, 4, 6), 3, 0, 'normal', 1.0, (-1.0, 1.0))


class Own(nn.Module):
  """Whatever a function of the images makes in it."""

  function: Any

  @nn.compact
  def __call__(self, x):
    return self.function(self, x)


class Stacked(nn.Module):
  """A block that `nn.scan` repeats."""

  @nn.compact
  def __call__(self, x, _):
    return nn.Dense(6)(nn.LayerNorm()(x)), None


def stack(module, x):
  layers = nn.scan(
    Stacked,
    variable_axes={'params': 0},
    split_rngs={'params': True},
    length=3,
  )
  return layers(name='layers')(x, None)[0]


def tokens(module, x):
  normal = nn.initializers.normal(0.02)
  place = module.param('place', normal, (1, 4, 4, 6))
  start = module.param('start', nn.initializers.zeros, (6,))
  return nn.Dense(3, name='last')(x + place + start.reshape(1, 1, 1, 6))


def angles(module, x):
  table = lambda key: jnp.sin(jnp.arange(6.0))
  wave = module.param('wave', table)
  return nn.Dense(3, name='last')(x + wave.reshape(1, 1, 1, 6))


def attention(module, x):
  x = x.reshape(len(x), 16, 6)
  return nn.MultiHeadDotProductAttention(2, name='a')(x)


ONES, ZEROS = np.ones(6, np.float32), np.zeros(6, np.float32)
HEADS = {
  f'a/{name}/{kind}': 6
  for name in ('key', 'out', 'query', 'value')
  for kind in ('bias', 'kernel')
}
# what a module does: (fan-ins of the masked ones, values of the frozen ones)
RULE = {
  'convolution': (
    lambda m, x: nn.Conv(6, (3, 3), feature_group_count=2, name='c')(x),
    {'c/bias': 27, 'c/kernel': 27},
    {},
  ),
  'norms': (
    lambda m, x: nn.Dense(3, name='d')(
      nn.GroupNorm(2, name='g')(nn.RMSNorm(name='r')(x))
    ),
    {'d/bias': 6, 'd/kernel': 6},
    {'g/bias': ZEROS, 'g/scale': ONES, 'r/scale': ONES},
  ),
  'tokens': (
    tokens,
    {'last/bias': 6, 'last/kernel': 6, 'place': 1},
    {'start': ZEROS},
  ),
  'a table': (
    angles,
    {'last/bias': 6, 'last/kernel': 6},
    {'wave': np.sin(np.arange(6.0)).astype(np.float32)},
  ),
  'attention': (attention, HEADS, {}),
  'a stack of layers': (
    stack,
    {'layers/Dense_0/bias': 6, 'layers/Dense_0/kernel': 6},
    {
      'layers/LayerNorm_0/bias': np.stack([ZEROS] * 3),
      'layers/LayerNorm_0/scale': np.stack([ONES] * 3),
    },
  ),
}


@pytest.mark.parametrize('name', RULE)
def test_the_rule(name):
  function, fan_ins, frozen = RULE[name]
  module = Own(function)
  for _ in range(2):  # JAX remembers what it has traced
    layout, got = parameters.of(module, ONE)
    assert dict(zip(layout.names, layout.fan_ins, strict=True)) == fan_ins
    assert got.keys() == frozen.keys()
    for path, value in frozen.items():
      np.testing.assert_allclose(got[path], value, rtol=1e-6)
  # Together they are the tree that the module wants, no more and no less.
  flat = jnp.zeros(layout.num_parameters)
  both = parameters.merged(masks.unravel(layout, flat), got)
  params = module.init(jax.random.key(0), jnp.zeros(ONE.shape))['params']
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert shapes(both) == shapes(params)


def heads(x):
  """Unit variance, as attention with one key only hands its values on."""
  return nn.DenseGeneral(64, axis=(-2, -1), use_bias=False)(
    x.reshape(len(x), -1, 8, 8)
  )


# Layers without a bias, of inputs of unit variance: a unit's variance is
# gain^2, whatever the number of its inputs.
LAYERS = {
  'Dense': (lambda m, x: nn.Dense(64, use_bias=False)(x), (4, 4, 64)),
  'Conv': (
    lambda m, x: nn.Conv(64, (3, 3), padding='VALID', use_bias=False)(x),
    (6, 6, 16),
  ),
  'grouped': (
    lambda m, x: nn.Conv(
      64, (3, 3), (2, 2), 'VALID', feature_group_count=4, use_bias=False
    )(x),
    (6, 6, 64),
  ),
  'ConvLocal': (
    lambda m, x: nn.ConvLocal(64, (3, 3), padding='VALID', use_bias=False)(x),
    (6, 6, 16),
  ),
  'DenseGeneral': (
    lambda m, x: nn.DenseGeneral((8, 8), use_bias=False)(x),
    (4, 4, 64),
  ),
  'heads to features': (lambda m, x: heads(x), (4, 4, 64)),
  'one for each row': (
    lambda m, x: nn.DenseGeneral(64, batch_dims=(0,), use_bias=False)(
      jnp.swapaxes(x, 0, 1)
    ),
    (4, 4, 64),
  ),
  'Embed': (
    lambda m, x: nn.Embed(500, 64)((x[..., 0] * 1e4).astype(jnp.int32) % 500),
    (8, 8, 1),
  ),
}


@pytest.mark.parametrize('name', LAYERS)
def test_a_unit_has_the_variance_that_its_fan_in_promises(name):
  function, image = LAYERS[name]
  one = jax.ShapeDtypeStruct((1, *image), jnp.float32)
  module = Own(function)
  layout, frozen = parameters.of(module, one)
  assert not frozen
  x = np.random.default_rng(0).standard_normal((64, *image)).astype(np.float32)
  variances = []
  for seed in range(8):
    words = keys.words(seed, keys.Purpose.WEIGHTS)
    flat = masks.weights(words, layout, kind='normal', gain=1.5)
    y = module.apply({'params': masks.unravel(layout, flat)}, x)
    variances.append(np.var(np.asarray(y)))
  assert math.sqrt(np.mean(variances)) == pytest.approx(1.5, rel=0.05)


def test_frozen_values_are_those_of_the_module_and_reach_it():
  """Against Flax itself, with the tree put together by hand."""

  def function(module, x):
    scale = nn.initializers.constant(0.5)
    x = nn.LayerNorm(scale_init=scale, name='norm')(x.reshape(len(x), -1))
    return nn.Dense(3, name='last')(x)

  module = Own(function)
  network = networks.build(SPEC, module=module)
  params = masks.unravel(network.layout, network.weights())
  assert params.keys() == {'last'}
  images = np.random.default_rng(0).uniform(-1, 1, (5, 4, 4, 6)).astype('f4')
  by_hand = params | {'norm': {'bias': np.zeros(96), 'scale': np.full(96, 0.5)}}
  np.testing.assert_allclose(
    network.apply(params, images),
    module.apply({'params': by_hand}, images),
    rtol=1e-6,
  )


def test_another_generator_of_jax_changes_nothing():
  layout, frozen = parameters.of(Own(tokens), ONE)
  with jax.default_prng_impl('rbg'):
    again = parameters.of(Own(tokens), ONE)
  assert again.layout == layout
  assert parameters.digest(again.frozen) == parameters.digest(frozen)


def test_the_digest_tells_values_names_and_shapes_apart():
  one = {'a': np.ones(6, np.float32)}
  others = [
    {'b': one['a']},
    {'a': one['a'].reshape(2, 3)},
    {'a': one['a'] * np.float32(0.5)},
    one | {'b': one['a']},
  ]
  digests = {parameters.digest(x) for x in (one, *others)}
  assert len(digests) == 5
  assert parameters.digest({}) == ''


def test_what_a_person_is_told():
  layout, frozen = parameters.of(Own(tokens), ONE)
  assert parameters.told(layout, frozen) == (
    'Frozen at their initial values, and not among the 117 masked parameters:'
    ' 6 in 1 tensors, start. Masked with a fan-in of 1: place.'
  )
  layout, frozen = parameters.of(Own(lambda m, x: nn.Dense(3)(x)), ONE)
  assert parameters.told(layout, frozen) == ''
  many = {f'norm_{i}/scale': np.ones(3, np.float32) for i in range(9)}
  assert 'norm_5/scale and 3 more.' in parameters.told(layout, many)


def test_a_module_without_layers_is_refused():
  with pytest.raises(ValueError, match=r'Own has nothing to mask.*norm/bias'):
    parameters.of(Own(lambda m, x: nn.LayerNorm(name='norm')(x)), ONE)


def test_too_much_that_is_not_of_layers_is_refused_before_it_is_made():
  huge = lambda m, x: nn.Dense(3)(
    x + m.param('big', nn.initializers.zeros, (2**20, 2**10)).sum()
  )
  with pytest.raises(
    ValueError, match=r'Own has 1,073,741,824 parameters.*big'
  ):
    parameters.of(Own(huge), ONE)
