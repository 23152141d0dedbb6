"""From a configuration to the functions of a run; here the ConfigDict ends."""

import pathlib
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from fedpm_jax.data import batches, partition, sources
from fedpm_jax.experiments import checkpoint
from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments import method as methods
from fedpm_jax.models import network as networks
from fedpm_jax.prng import keys
from fedpm_jax.protocol import aggregate
from fedpm_jax.protocol.foresight import Foresight
from fedpm_jax.reports import codec_costs
from fedpm_jax.simulation import evaluate, rounds


class Experiment(NamedTuple):
  """Everything that `build` makes of a configuration."""

  config: dict[str, Any]
  spec: networks.Spec
  dataset: sources.Dataset
  parts: list[np.ndarray]  # M clients' examples
  engine: rounds.Engine
  evaluate: Any  # (server_state, round_idx) -> metrics


def build(
  config: ml_collections.ConfigDict, dataset: sources.Dataset | None = None
) -> Experiment:
  """Turns a configuration into functions; here the ConfigDict ends.

  Args:
    config: see `fedpm_jax.config.default`.
    dataset: instead of the one that `config.data` names.

  Raises:
    ValueError: anything in the configuration that makes no sense, before
      anything expensive is done.
  """
  methods.check(config)
  if dataset is None:
    dataset = sources.load(
      config.data.name,
      data_dir=config.data.dir or None,
      cache_dir=config.data.cache_dir or None,
    )
  spec = networks.Spec(
    model=config.model,
    image_shape=tuple(dataset.x_train.shape[1:]),
    num_classes=dataset.num_classes,
    seed=config.seed,
    weight_kind=config.weights.kind,
    weight_gain=config.weights.gain,
  )
  network = networks.build(
    spec, lowering=config.execution.lowering, dtype=config.execution.dtype
  )
  parts = partition.split(
    config.data.partition,
    dataset.y_train,
    num_clients=config.num_clients,
    seed=config.seed,
    classes_per_client=config.data.classes_per_client,
    alpha=config.data.alpha,
    sizes=config.data.sizes,
    max_examples=config.data.max_examples or None,
  )
  method = methods.build(config, network)
  mesh = rounds.make_mesh(
    config.clients_per_round, max_devices=config.execution.devices
  )
  engine = rounds.Engine(
    method,
    seed=config.seed,
    num_clients=config.num_clients,
    images=dataset.x_train,
    labels=dataset.y_train,
    mesh=mesh,
    chunk=config.execution.chunk,
  )
  return Experiment(
    configs.to_dict(config),
    spec,
    dataset,
    parts,
    engine,
    _evaluation(config, dataset, network, method.algorithm, mesh),
  )


def _evaluation(config, dataset, network, algorithm, mesh):
  """(server_state, round_idx) -> metrics of the whole test set."""
  test = evaluate.padded(
    dataset.x_test,
    dataset.y_test,
    batch_size=config.evaluation.batch_size,
    shards=mesh.size,
  )
  test = jax.device_put(
    test, jax.NamedSharding(mesh, jax.sharding.PartitionSpec('clients'))
  )
  function = evaluate.make_evaluate(network, algorithm.eval_params, mesh)
  seed = config.seed

  def run(server_state, round_idx):
    key = keys.derive(seed, keys.Purpose.EVALUATE, round_idx=round_idx)
    return evaluate.to_metrics(function(server_state, key, *test))

  return run


def cohort(experiment: Experiment, round_idx: int) -> rounds.Cohort:
  """Who takes part in a round, and on which examples."""
  config = experiment.config
  ids = keys.cohort(
    config['seed'],
    round_idx,
    num_clients=config['num_clients'],
    clients_per_round=config['clients_per_round'],
  )
  plan = batches.plan(
    experiment.parts,
    ids,
    seed=config['seed'],
    round_idx=round_idx,
    epochs=config['local_epochs'],
    batch_size=config['batch_size'],
  )
  return rounds.Cohort(ids, plan.indices, plan.valid)


def costs(
  experiment: Experiment, kept: list[rounds.Kept]
) -> list[dict[str, Any]]:
  """What every codec would have cost in some rounds of a run; see `codec_costs.costs`."""
  engine = experiment.engine
  # Whatever the run used, what it could have used is compared.
  method = engine.method._replace(**codec_costs.BEST)
  foresight = Foresight(
    method,
    seed=experiment.config['seed'],
    aggregation=aggregate.make(method),
  )
  rows = []
  for round_ in kept:
    rows += codec_costs.costs(round_, foresight, method.network.layout)
  return rows


def restore(
  experiment: Experiment, workdir: pathlib.Path | str
) -> rounds.State:
  """The state in a run's latest checkpoint, to look into.

  Raises:
    ValueError: there is none, or it belongs to another configuration.
  """
  checkpoints = checkpoint.Checkpoints(pathlib.Path(workdir) / 'checkpoints')
  try:
    restored = checkpoints.restore(experiment.engine.init(), experiment.config)
  finally:
    checkpoints.close()
  if restored is None:
    raise ValueError(f'There is no checkpoint in {workdir}.')
  return restored.state
