"""The evaluation of a run: on which examples, and by how many masks."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fedpm_jax.algorithms.base import Algorithm
from fedpm_jax.data import partition
from fedpm_jax.data.sources import Dataset
from fedpm_jax.experiments.config import Config
from fedpm_jax.prng import keys
from fedpm_jax.simulation import client_accuracy, evaluate
from fedpm_jax.simulation.rounds import Engine


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
  key = jax.eval_shape(lambda: keys.derive(0, keys.Purpose.EVALUATE))
  state, _ = jax.eval_shape(algorithm.init, key)
  kinds = jax.eval_shape(algorithm.eval_params, state, key)
  if 'sampled' not in kinds:
    raise ValueError(
      f'config.evaluation.masks = {count} needs an algorithm that samples masks,'
      f' got {name!r}, which has the networks {list(kinds)}: leave it at 1.'
    )


def make(
  config: Config,
  dataset: Dataset,
  engine: Engine,
  mesh: jax.sharding.Mesh,
  client_examples: list[np.ndarray],
) -> Callable[[Any, int], dict[str, float]]:
  """(server_state, round_idx) -> metrics of the whole test set.

  Args:
    config: of the run.
    dataset: whose test set is put on the devices.
    engine: of the run.
    mesh: the test set is spread over it.
    client_examples: M arrays, for the accuracy by client.
  """
  test = evaluate.padded(
    dataset.x_test,
    dataset.y_test,
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

  def run(server_state: Any, round_idx: int) -> dict[str, float]:
    of_masks = keys.derive(
      seed, keys.Purpose.EVALUATE, round_idx=round_idx, client=places
    )
    results = jax.device_get(function(server_state, of_masks, *on_devices))
    return evaluate.to_metrics(results) | client_accuracy.metrics(
      results.mean_by_class, of_class, label_counts
    )

  return run
