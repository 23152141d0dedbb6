"""Small federations in this process, and the simulations that they must be."""

import functools
import hashlib

from local_grid import Clock, LocalGrid, Node

from fedpm_jax.experiments import run
from fedpm_jax.experiments.experiment import Experiment
from fedpm_jax.federation import settings
from fedpm_jax.federation.federated import Federated
from fedpm_jax.reports import records

FLAGS = (
  '--config.rounds=3 --config.num_clients=4 --config.clients_per_round=4'
  ' --config.local_epochs=1 --config.batch_size=8 --config.model=cnn'
  ' --config.data.max_examples=16 --config.seed=5 --config.evaluation.every=1'
)
CLIENTS = 4


def told(flags='', config='digits'):
  """A run's configuration, as Flower hands it over."""
  return settings.DEFAULTS | {'config': config, 'flags': f'{FLAGS} {flags}'}


def node_id(client):
  return 100 + client


def grid_of(run_config, clients=None):
  return LocalGrid(
    {
      node_id(i): Node({'partition-id': i}, run_config)
      for i in (range(CLIENTS) if clients is None else clients)
    }
  )


def federate(folder, grid, run_config, **options):
  """A whole run over a grid, whose time passes only while the server waits."""
  clock = Clock()
  experiment = functools.partial(
    Federated, grid=grid, clock=clock, sleep=clock.sleep, **options
  )
  run.train(settings.read(run_config).config, folder, experiment=experiment)
  return records.read_rows(folder / 'metrics.jsonl')


class Simulated(Experiment):
  """A simulation whose rounds lack some clients: {round: clients}."""

  def __init__(self, config, without, **parts):
    super().__init__(config, **parts)
    self._without = without

  def cohort(self, round_idx):
    whole = super().cohort(round_idx)
    gone = self._without.get(round_idx, ())
    here = [k for k, i in enumerate(whole.ids) if i not in gone]
    return type(whole)(*(rows[here] for rows in whole))


def simulate(folder, run_config, without=None):
  """The same run in a simulation; its rows."""
  experiment = functools.partial(Simulated, without=without or {})
  run.train(settings.read(run_config).config, folder, experiment=experiment)
  return records.read_rows(folder / 'metrics.jsonl')


def common(rows, but=()):
  """All metrics that both have, but times and those that are named."""
  return [
    {
      name: value
      for name, value in row.items()
      if not name.startswith(('time/', 'federation/')) and name not in but
    }
    for row in rows
  ]


def digest(folder):
  return hashlib.sha256((folder / 'model.fedpm').read_bytes()).hexdigest()
