"""FedJAX's federated averaging, with its jit backend: client by client."""

import sys

import protocol

GET = 'pip install git+https://github.com/google/fedjax'


def main() -> None:
  # This file has the peer's name; its folder must not be searched first.
  sys.path.pop(0)
  task = protocol.task()
  try:
    import fedjax
    import haiku as hk
  except ImportError:
    protocol.missing(GET)
  import jax
  import numpy as np

  def network(batch):
    layers = [
      hk.Conv2D(32, 3),
      jax.nn.relu,
      hk.Conv2D(64, 3),
      jax.nn.relu,
      hk.MaxPool((2, 2, 1), (2, 2, 1), 'VALID'),
      hk.Flatten(),
      hk.Linear(128),
      jax.nn.relu,
      hk.Linear(task['classes']),
    ]
    return hk.Sequential(layers)(batch['x'])

  rng = np.random.default_rng(0)
  examples = task['steps'] * task['batch']

  def client():
    x = rng.normal(size=(examples, *task['image_shape'])).astype(np.float32)
    y = rng.integers(0, task['classes'], examples).astype(np.int32)
    return fedjax.ClientDataset({'x': x, 'y': y})

  model = fedjax.create_model_from_haiku(
    hk.transform(network),
    sample_batch=client().all_examples(),
    train_loss=lambda batch, logits: (
      fedjax.metrics.unreduced_cross_entropy_loss(batch['y'], logits)
    ),
  )
  # The backend is chosen when the algorithm is made.
  fedjax.set_for_each_client_backend('jit')
  algorithm = fedjax.algorithms.fed_avg.federated_averaging(
    fedjax.model_grad(model),
    fedjax.optimizers.sgd(0.1),
    fedjax.optimizers.sgd(1.0),
    fedjax.ShuffleRepeatBatchHParams(batch_size=task['batch'], num_epochs=1),
  )
  keys = jax.random.split(jax.random.key(0), task['clients'])
  clients = [(str(i), client(), keys[i]) for i in range(task['clients'])]
  state = algorithm.init(model.init(jax.random.key(1)))

  def run():
    nonlocal state
    state, _ = algorithm.apply(state, clients)
    jax.block_until_ready(state.params)

  run()
  run()
  protocol.serve(run)


if __name__ == '__main__':
  main()
