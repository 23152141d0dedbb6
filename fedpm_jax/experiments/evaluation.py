"""The evaluation of a run: how often, on which examples, by how many masks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging

from fedpm_jax.algorithms.base import Algorithm
from fedpm_jax.data import batches, partition
from fedpm_jax.data.sources import Dataset
from fedpm_jax.experiments.config import Config
from fedpm_jax.prng import keys
from fedpm_jax.simulation import client_accuracy, evaluate
from fedpm_jax.simulation.rounds import Engine

# Where nobody says how often, evaluations take a fifth of the time at most: the
# rounds between two of them take four times as long as one.
_ROUNDS_TO_ONE = 4
# Forward, and backward by the activations and by the parameters.
_PASSES_OF_TRAINING = 3


def check(config: Config, algorithm: Algorithm, name: str) -> None:
  """Raises ValueError if several masks are asked for, and there are none.

  A table in which their columns are silently missing would be worse.

  Args:
    config: of the run.
    algorithm: whose networks are evaluated.
    name: of the algorithm.
  """
  count = config.evaluation.masks
  if count == 1:
    return
  kinds = _kinds(algorithm)
  if 'sampled' not in kinds:
    raise ValueError(
      f'config.evaluation.masks = {count} needs an algorithm that samples masks,'
      f' got {name!r}, which has the networks {kinds}: leave it at 1.'
    )


def _kinds(algorithm: Algorithm) -> list[str]:
  """The names of the networks that are evaluated."""
  key = jax.eval_shape(lambda: keys.derive(0, keys.Purpose.EVALUATE))
  state, _ = jax.eval_shape(algorithm.init, key)
  return list(jax.eval_shape(algorithm.eval_params, state, key))


def every(
  config: Config,
  algorithm: Algorithm,
  *,
  test_examples: int,
  client_examples: list[np.ndarray],
) -> int:
  """After each how many rounds the networks are evaluated.

  Where the configuration leaves it open, it follows from counted passes of
  examples through the network, never from a clock: the same rounds are evaluated
  on every machine.  Coding, which a round has besides, makes evaluations cost
  less than is counted.

  Args:
    config: of the run.
    algorithm: whose networks are evaluated.
    test_examples: of the test set.
    client_examples: M arrays.

  Returns:
    At least 1.
  """
  if config.evaluation.every:
    return config.evaluation.every
  networks = len(_kinds(algorithm)) + config.evaluation.masks - 1
  steps = batches.steps_per_round(
    client_examples, epochs=config.local_epochs, batch_size=config.batch_size
  )
  trained = config.clients_per_round * steps * config.batch_size
  passes = _PASSES_OF_TRAINING * trained
  return -(-_ROUNDS_TO_ONE * networks * test_examples // passes)


class Evaluation(NamedTuple):
  """Two steps, because the first one may run ahead in a thread.

  Attributes:
    results: (server_state, round_idx) -> Results of this host's share of the test
      set.
    metrics: (Results) -> metrics of the whole test set.  All hosts call it.
  """

  results: Callable[[Any, int], evaluate.Results]
  metrics: Callable[[evaluate.Results], dict[str, float]]


def make(
  config: Config,
  dataset: Dataset,
  engine: Engine,
  client_examples: list[np.ndarray],
) -> Evaluation:
  """The evaluation on the whole test set.

  Args:
    config: of the run.
    dataset: whose test set is put on the devices.
    engine: of the run; its hosts and their meshes share the test set.
    client_examples: M arrays, for the accuracy by client.
  """
  mesh, hosts = engine.mesh, engine.hosts
  share = hosts.share(len(dataset.y_test))
  test = evaluate.padded(
    dataset.x_test[share],
    dataset.y_test[share],
    batch_size=config.evaluation.batch_size,
    shards=mesh.size,
  )
  by_batch = jax.NamedSharding(mesh, jax.sharding.PartitionSpec('clients'))
  on_devices = jax.device_put(test, by_batch)
  method, seed = engine.method, config.seed
  function = evaluate.make_evaluate(
    method.network, method.algorithm.eval_params, mesh
  )
  # The first mask is the same however many there are.
  places = np.arange(config.evaluation.masks)
  label_counts = partition.label_counts(
    client_examples, dataset.y_train, dataset.num_classes
  )
  of_class = np.bincount(dataset.y_test, minlength=dataset.num_classes)

  def results(server_state: Any, round_idx: int) -> evaluate.Results:
    of_masks = keys.derive(
      seed, keys.Purpose.EVALUATE, round_idx=round_idx, client=places
    )
    return jax.device_get(function(server_state, of_masks, *on_devices))

  told = False

  def metrics(own: evaluate.Results) -> dict[str, float]:
    nonlocal told
    whole = hosts.sum(own)
    row = evaluate.to_metrics(whole)
    if hosts.leads and not (told or np.isfinite(list(row.values())).all()):
      told = True  # Once is enough: the next evaluation has the same cause.
      logging.warning('%s', _not_finite(row, dataset))
    return row | client_accuracy.metrics(
      np.asarray(whole.mean_by_class), of_class, label_counts
    )

  return Evaluation(results, metrics)


def _not_finite(row: dict[str, float], dataset: Dataset) -> str:
  """What to look at where a test loss is not finite."""
  names = [name for name, value in row.items() if not np.isfinite(value)]
  said = (
    f'{", ".join(names)}: not finite. The network makes outputs of some test'
    ' inputs that are not finite.'
  )
  if dataset.x_test.dtype != np.int32:
    return f'{said} Compare x_test with x_train.'
  return (
    f'{said} The largest token of x_test is {dataset.x_test.max()}, that of'
    f' x_train {dataset.x_train.max()}: an nn.Embed gives NaN unless all tokens'
    ' are below its num_embeddings.'
  )
