"""CONV-d: its parameters, its errors, and that lowerings only change speed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fedpm_jax import masks, models
from fedpm_jax.models import conv
from fedpm_jax.models import network as networks
from fedpm_jax.system import xla


def shapes_of(net, image):
  x = jax.ShapeDtypeStruct((1, *image), jnp.float32)
  return jax.eval_shape(net.init, jax.random.key(0), x)['params']


@pytest.mark.parametrize(
  ('depth', 'image', 'num_classes', 'expected'),
  [
    (4, (8, 8, 1), 10, 458_698),
    (4, (28, 28, 1), 10, 1_933_258),
    (4, (28, 28, 1), 47, 1_942_767),
    (6, (32, 32, 3), 10, 2_262_602),
    (10, (32, 32, 3), 100, 19_197_092),
  ],
)
def test_number_of_parameters(depth, image, num_classes, expected):
  net = conv.conv(depth, num_classes=num_classes)
  leaves = jax.tree.leaves(shapes_of(net, image))
  assert sum(leaf.size for leaf in leaves) == expected


def test_the_small_network_is_that_of_the_benchmarks():
  """conv 32, conv 64, pool, dense 128, dense 10, by hand."""
  leaves = jax.tree.leaves(
    shapes_of(models.MODELS['cnn'](num_classes=10), (32, 32, 3))
  )
  convolutions = (27 + 1) * 32 + (9 * 32 + 1) * 64
  dense = (16 * 16 * 64 + 1) * 128 + (128 + 1) * 10
  assert sum(leaf.size for leaf in leaves) == convolutions + dense


def test_lenet_has_three_dense_layers():
  leaves = jax.tree.leaves(
    shapes_of(models.MODELS['lenet'](num_classes=10), (28, 28, 1))
  )
  sizes = 784 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10
  assert sum(leaf.size for leaf in leaves) == sizes == 266_610


def test_convolutions_come_in_pairs():
  with pytest.raises(ValueError, match='expected pairs'):
    shapes_of(conv.ConvNet((32,)), (8, 8, 1))
  with pytest.raises(ValueError, match='got 5, expected 2, 4, 6, 8 or 10'):
    conv.conv(5, num_classes=10)


def test_names_and_shapes():
  shapes = shapes_of(conv.conv(2, num_classes=7), (9, 8, 3))
  assert jax.tree.map(lambda leaf: leaf.shape, shapes) == {
    'conv_0': {'kernel': (3, 3, 3, 64), 'bias': (64,)},
    'conv_1': {'kernel': (3, 3, 64, 64), 'bias': (64,)},
    'dense_0': {'kernel': (4 * 4 * 64, 256), 'bias': (256,)},
    'dense_1': {'kernel': (256, 256), 'bias': (256,)},
    'dense_2': {'kernel': (256, 7), 'bias': (7,)},
  }


def plain_conv2(params, x):
  """CONV-2, written down step by step."""
  for name in ('conv_0', 'conv_1'):
    x = lax.conv_general_dilated(
      x,
      params[name]['kernel'],
      window_strides=(1, 1),
      padding='SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    x = jax.nn.relu(x + params[name]['bias'][None, None, None])
  window = (1, 2, 2, 1)
  x = lax.reduce_window(x, -np.inf, lax.max, window, window, 'VALID')
  x = x.reshape(len(x), -1)
  for name in ('dense_0', 'dense_1', 'dense_2'):
    x = x @ params[name]['kernel'] + params[name]['bias'][None]
    x = x if name == 'dense_2' else jax.nn.relu(x)
  return x


def test_network_is_the_plain_one_whatever_the_lowering(rng):
  """Logits and gradients of a whole network; ReLUs may flip at rounding."""
  x = jnp.float32(rng.normal(size=(4, 7, 8, 1)))
  params = jax.tree.map(
    lambda leaf: np.float32(rng.normal(scale=0.1, size=leaf.shape)),
    shapes_of(conv.conv(2, num_classes=10), (7, 8, 1)),
  )

  def logits_and_gradients(network, lowering):
    def loss(params):
      logits = network(params, x)
      return jnp.mean(logits**2), logits

    options = xla.compiler_options()
    step = jax.jit(jax.grad(loss, has_aux=True), compiler_options=options)
    gradients, logits = step(params)
    return jax.tree.leaves((logits, gradients))

  expected = logits_and_gradients(plain_conv2, 'lax')
  for lowering in ('im2col', 'winograd'):
    net = conv.conv(2, num_classes=10, lowering=lowering)
    results = logits_and_gradients(
      lambda params, x, net=net: net.apply({'params': params}, x), lowering
    )
    for got, want in zip(results, expected, strict=True):
      assert np.linalg.norm(got - want) / np.linalg.norm(want) < 1e-4


@pytest.mark.parametrize('depth', [0, 3, 12, -2])
def test_bad_depth(depth):
  with pytest.raises(ValueError, match=f'got {depth}, expected 2, 4'):
    shapes_of(conv.conv(depth, num_classes=10), (32, 32, 3))


@pytest.mark.parametrize('image', [(15, 32, 3), (32, 8, 3), (32, 32)])
def test_bad_images(image):
  expected = r'takes images \[B, H, W, C\] with H and W at least 16, got inputs'
  with pytest.raises(ValueError, match=expected):
    shapes_of(conv.conv(8, num_classes=10), image)


def test_bfloat16_is_float32_up_to_its_rounding(rng):
  """The same network and gradient within 3 %; parameters stay float32."""
  spec = networks.Spec('conv2', (8, 8, 1), 10, 0, 'signed_constant', 2**0.5)
  images = rng.integers(0, 256, (16, 8, 8, 1)).astype(np.uint8)
  results = []
  for dtype in networks.DTYPES:
    network = networks.build(spec, lowering='im2col', dtype=dtype)

    def loss(weights, network=network):
      params = masks.unravel(network.layout, weights)
      logits = network.apply(params, images)
      return jnp.mean(logits**2), logits

    gradient, logits = jax.jit(jax.grad(loss, has_aux=True))(network.weights())
    assert gradient.dtype == logits.dtype == jnp.float32
    results.append((np.asarray(logits), np.asarray(gradient)))
  for exact, rounded in zip(*results, strict=True):
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 1e-4 < error < 0.03
