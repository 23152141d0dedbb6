"""Engines on random images, for benchmarks."""

import math
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

SHAPES = {  # the paper's data for that network: image, classes
  'conv2': ((28, 28, 1), 10),
  'conv4': ((28, 28, 1), 10),
  'conv6': ((32, 32, 3), 10),
  'conv8': ((32, 32, 3), 10),
  'conv10': ((32, 32, 3), 100),
  'cnn': ((32, 32, 3), 10),
}
DIGITS = ((8, 8, 1), 10)  # of the first run; any network takes them


def build(
  model: str,
  *,
  clients: int,
  batch: int,
  steps: int,
  chunk: int = 1,
  turn: int = 0,
  lowering: str = 'auto',
  dtype: str = 'float32',
  method: str = 'fedpm',
  data: tuple[tuple[int, int, int], int] | None = None,
):
  """FedPM as the program runs it, with default codecs.

  Args:
    model: a key of SHAPES.
    clients: K, all of them in every round.
    batch: B.
    steps: S, local steps of every client.
    chunk: clients that a device vectorises.
    turn: clients that a device trains before the host codes; 0 for the
      program's choice.
    lowering: of convolutions.
    dtype: of activations.
    method: 'fedpm', or 'fedavg': SGD on the weights, float32 both ways.
    data: the images' shape and the number of classes; None for the model's row
      of SHAPES.

  Returns:
    An engine, and the cohort for each of its rounds.
  """
  import numpy as np
  import optax

  from fedpm_jax import algorithms, compressors
  from fedpm_jax.models import network as networks
  from fedpm_jax.protocol.method import compose
  from fedpm_jax.simulation import placement, rounds
  from fedpm_jax.system import machine

  machine.start_jax()
  # With e, SGD of the weights diverges.
  kind, gain = {
    'fedpm': ('signed_constant', math.e),
    'fedavg': ('normal', math.sqrt(2)),
  }[method]
  image_shape, classes = data or SHAPES[model]
  network = networks.build(
    networks.Spec(
      model=model,
      image_shape=image_shape,
      num_classes=classes,
      seed=0,
      weight_kind=kind,
      weight_gain=gain,
    ),
    lowering=lowering,
    dtype=dtype,
  )
  optimizer, compressor, uplink, downlink = {
    'fedpm': (optax.adam(0.1), 'bernoulli', 'dither', 'theta_news'),
    'fedavg': (optax.sgd(0.01), 'identity', 'raw', 'raw'),
  }[method]
  rng = np.random.default_rng(0)
  count = min(max(clients * batch * steps, 1000), 50_000)
  images = rng.integers(0, 256, (count, *image_shape)).astype(np.uint8)
  engine = rounds.Engine(
    compose(
      network,
      algorithms.ALGORITHMS[method](network, optimizer),
      compressors.COMPRESSORS[compressor](network.layout),
      uplink=uplink,
      downlink=downlink,
    ),
    seed=0,
    num_clients=clients,
    inputs=images,
    labels=rng.integers(0, classes, count).astype(np.int32),
    mesh=placement.make_mesh(clients),
    chunk=chunk,
    turn=turn,
  )
  shape = (clients, steps, batch)
  cohort = rounds.Cohort(
    np.arange(clients, dtype=np.int32),
    rng.integers(0, count, shape).astype(np.int32),
    np.ones(shape, np.bool_),
  )
  return engine, cohort


def training(engine, cohort):
  """A function that trains the cohort once, as a round does, and waits."""
  import jax
  import numpy as np

  payload = np.asarray(engine.method.algorithm.broadcast(engine.init().server))
  members = engine.trainer.work(cohort, 0)
  return lambda: jax.block_until_ready(
    list(engine.trainer.turns(payload, members, (), cohort.ids))
  )
