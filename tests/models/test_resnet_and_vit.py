"""ResNet-18 and the small transformer: their parameters, and that they learn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_own_parts import own_data

from fedpm_jax.algorithms import fedpm, local
from fedpm_jax.models import network as networks
from fedpm_jax.models import resnet, vit
from fedpm_jax.prng import keys


def network_of(row, image):
  spec = networks.Spec(row, image, 10, 0, 'signed_constant', 1.4)
  return networks.build(spec)


def test_resnet18_has_the_parameters_of_the_usual_one_for_cifar():
  """11,173,962 are those of PyTorch's, of which 9,600 are of its norms."""
  network = network_of('resnet18', (32, 32, 3))
  frozen = sum(value.size for value in network.frozen.values())
  assert frozen == 2 * (64 * 5 + (128 + 256 + 512) * 5) == 9_600
  assert network.layout.num_parameters == 11_173_962 - 9_600
  scales = {n for n in network.frozen if n.endswith('scale')}
  assert all((network.frozen[name] == 1).all() for name in scales)
  assert all(
    not network.frozen[n].any() for n in network.frozen.keys() - scales
  )


def test_the_transformer_has_the_parameters_that_its_shape_says():
  network = network_of('vit', (32, 32, 3))
  patches, places, head = 48 * 192 + 192, 64 * 192, 192 * 10 + 10
  attention, dense = 4 * (192 * 192 + 192), 2 * 4 * 192 * 192 + 5 * 192
  assert network.layout.num_parameters == patches + places + head + 6 * (
    attention + dense
  )
  assert sum(value.size for value in network.frozen.values()) == 13 * 2 * 192
  fan_ins = dict(zip(network.layout.names, network.layout.fan_ins, strict=True))
  assert fan_ins['places'] == 1
  assert fan_ins['attention_0/query/kernel'] == 192
  assert fan_ins['attention_0/out/kernel'] == 192
  assert fan_ins['dense_0_out/kernel'] == 4 * 192


def test_a_block_is_its_two_convolutions_and_its_shortcut():
  """By hand, in NumPy where the kernels look at one pixel only."""
  net = resnet.ResNet(widths=(4,), blocks=1, groups=1, num_classes=2)
  rng = np.random.default_rng(0)
  params = {}
  for name in ('stem', 'block_0_0_conv_0', 'block_0_0_conv_1'):
    kernel = np.zeros((3, 3, 4, 4), np.float32)
    kernel[1, 1] = rng.standard_normal((4, 4))
    params[name] = {'kernel': kernel}
  for name in ('stem_norm', 'block_0_0_norm_0', 'block_0_0_norm_1'):
    params[name] = {'scale': np.ones(4), 'bias': np.zeros(4)}
  params['head'] = {'kernel': np.eye(4, 2), 'bias': np.zeros(2)}
  x = rng.standard_normal((1, 3, 2, 4)).astype(np.float32)

  def normed(name, x):
    x = x @ params[name]['kernel'][1, 1]
    return (x - x.mean()) / np.sqrt(x.var() + 1e-6)

  relu = lambda x: np.maximum(x, 0)
  stem = relu(normed('stem', x))
  inner = normed('block_0_0_conv_1', relu(normed('block_0_0_conv_0', stem)))
  want = relu(stem + inner).mean((1, 2))[:, :2]
  got = net.apply({'params': params}, jnp.asarray(x))
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_images_that_cannot_be_cut_into_patches():
  with pytest.raises(ValueError, match='multiples of the patch, 4'):
    network_of('vit', (30, 32, 3))


TINY = {
  'resnet': resnet.ResNet(widths=(16,), blocks=1, groups=4, num_classes=3),
  'vit': vit.VisionTransformer(2, width=16, depth=1, heads=2, num_classes=3),
}


@pytest.mark.parametrize('name', TINY)
def test_a_tiny_one_learns_which_rows_are_bright(name):
  """A client's local steps of FedPM, over and over."""
  data = own_data()
  spec = networks.Spec('own', (6, 6, 2), 3, 0, 'signed_constant', 1.4, (0, 1))
  network = networks.build(spec, module=TINY[name])
  algorithm = fedpm.fedpm(network, optax.adam(0.1))
  options = network.compiler_options
  receive = jax.jit(algorithm.receive, compiler_options=options)
  train = jax.jit(algorithm.client_update, compiler_options=options)
  steps, losses = 20, []
  q = np.full(network.layout.num_parameters, 2**15, np.uint16)
  for i in range(5):
    seen = local.ClientBatches(
      data.x_train,
      data.y_train,
      np.tile(np.arange(90).reshape(3, 30), (7, 1))[:steps],
      np.ones((steps, 30), bool),
    )
    step_keys = jax.random.split(keys.derive(i, keys.Purpose.LOCAL), steps)
    q, _, sums = train(receive(q), seen, (), step_keys, step_keys[0])
    losses.append(float(sums.loss) / int(sums.examples))
  assert losses[-1] < 0.5 * losses[0], losses
