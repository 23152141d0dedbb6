"""A tiny network and tiny data: an engine that compiles in a second."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedpm_jax import algorithms, compressors, masks
from fedpm_jax.experiments import build, config_files
from fedpm_jax.experiments import config as configs
from fedpm_jax.models import inputs
from fedpm_jax.models.network import Network
from fedpm_jax.prng import keys
from fedpm_jax.protocol.method import compose
from fedpm_jax.simulation import placement, rounds

SIZE, HIDDEN, CLASSES = 4, 16, 3
SHAPES = ((HIDDEN,), (SIZE * SIZE, HIDDEN), (CLASSES,), (HIDDEN, CLASSES))


def network(seed=0):
  """A perceptron with one hidden layer, as a masked network."""
  params = {
    f'dense_{i}': {'bias': jnp.zeros(b), 'kernel': jnp.zeros(k)}
    for i, (b, k) in enumerate([SHAPES[:2], SHAPES[2:]])
  }
  layout = masks.layout_of(params)

  def apply(params, images):
    x = inputs.normalise(images).reshape(len(images), -1)
    for i in range(2):
      layer = params[f'dense_{i}']
      x = x @ layer['kernel'] + layer['bias'].reshape(1, -1)
      x = jax.nn.relu(x) if i == 0 else x
    return x

  def weights():
    # Not +-c: sums of those are often exactly 0, where float32 and float64
    # disagree on which side of a ReLU they are.
    key = keys.words(seed, keys.Purpose.WEIGHTS)
    return masks.weights(key, layout, kind='normal')

  return Network(layout, apply, weights, compiler_options={})


def data(rng, examples=60):
  """Images whose class shows in their brightness, uint8 [N, 4, 4, 1]."""
  labels = np.arange(examples, dtype=np.int32) % CLASSES
  noise = rng.integers(0, 90, (examples, SIZE, SIZE, 1))
  return (noise + 80 * labels[:, None, None, None]).astype(np.uint8), labels


# A gradient of rounding errors only, 1e-9 say, is none here; with Adam's own
# eps = 1e-8 float32 and float64 part company over it.
ADAM = {'learning_rate': 0.1, 'eps': 1e-4}


def method(net, *, uplink='dither', downlink='theta_news', **options):
  make = algorithms.ALGORITHMS['fedpm']
  algorithm = make(net, optax.adam(**ADAM), **options)
  return compose(
    net,
    algorithm,
    compressors.COMPRESSORS['bernoulli'](net.layout),
    uplink=uplink,
    downlink=downlink,
  )


# Ways to run a method that are no part of the comparison: the same laws hold.
VARIANTS = {
  'fedpm_private': {
    'wire.compressor': 'randomised_response',
    'randomised_response.epsilon': 2.0,
    'wire.uplink': 'per_level',
    'wire.private_randomness': True,
  },
}


def methods_table():
  """METHODS of configs/methods.py, and VARIANTS."""
  folder = pathlib.Path(__file__).parent.parent / 'configs'
  return config_files.load(folder / 'methods.py').METHODS | VARIANTS


def named_method(net, overrides, optimizer=None):
  """A row of `configs/methods.py` on a network, with an Adam that suits it."""
  config = configs.default()
  config.update_from_flattened_dict(overrides)
  config.optimizer.learning_rate = 0.01
  config.adam.eps, config.adam.b1 = ADAM['eps'], 0.9
  return build.method(config, net, build.Parts(optimizer=optimizer))


def engine_of(
  method,
  *,
  chunk=1,
  turn=0,
  num_clients=4,
  clients_per_round=4,
  most_brought=0,
  max_distance=0.0,
  weights=None,
):
  """An engine of any method on the tiny data."""
  images, labels = data(np.random.default_rng(0))
  return rounds.Engine(
    method,
    seed=0,
    num_clients=num_clients,
    inputs=images,
    labels=labels,
    mesh=placement.make_mesh(clients_per_round),
    chunk=chunk,
    turn=turn,
    most_brought=most_brought,
    max_distance=max_distance,
    weights=weights,
  )


@functools.lru_cache
def engine(
  *,
  chunk=1,
  turn=0,
  num_clients=4,
  clients_per_round=4,
  most_brought=0,
  **options,
):
  """An engine; it holds no state of a run, so tests share its compilations."""
  return engine_of(
    method(network(), **options),
    chunk=chunk,
    turn=turn,
    num_clients=num_clients,
    clients_per_round=clients_per_round,
    most_brought=most_brought,
  )


def cohort(rng, ids, *, steps=5, batch=8, examples=60):
  """Random batches, ragged: the last step of odd clients is half padding."""
  ids = np.asarray(ids, np.int32)
  indices = rng.integers(0, examples, (len(ids), steps, batch))
  mask = np.ones(indices.shape, bool)
  mask[ids % 2 == 1, -1, batch // 2 :] = False
  mask[ids == 3, -1] = False
  return rounds.Cohort(ids, indices.astype(np.int32), mask)


def sgd_deltas(net, params, cohort, learning_rate):
  """What plain SGD of each client changes in weights, step by step, `[K, d]`.

  Batches without an example are skipped.
  """
  images, labels = data(np.random.default_rng(0))

  def loss(flat, x, y):
    logits = net.apply(masks.unravel(net.layout, flat), x)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))

  gradient, deltas = jax.jit(jax.grad(loss)), []
  for batches, valid in zip(cohort.indices, cohort.valid, strict=True):
    trained = params
    for indices, mask in zip(batches, valid, strict=True):
      if mask.any():
        seen = indices[mask]
        trained = trained - learning_rate * gradient(
          trained, images[seen], labels[seen]
        )
    deltas.append(np.asarray(trained - params))
  return np.stack(deltas)
