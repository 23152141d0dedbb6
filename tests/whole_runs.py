"""Whole runs of seconds: how to start one, and what must be the same."""

import hashlib
import pathlib
import sys

from fedpm_jax.experiments import config as configs
from fedpm_jax.reports import records

ROOT = pathlib.Path(__file__).parents[1]
SMALL = {
  'rounds': 4,
  'num_clients': 3,
  'clients_per_round': 2,
  'local_epochs': 1,
  'batch_size': 16,
  'model': 'conv2',
  'weights.gain': 1.5,  # both sides: the command's default is digits.py
  'optimizer.learning_rate': 0.1,
  'adam.b1': 0.9,
  'adam.eps': 1e-8,
  'data.max_examples': 20,
  'checkpoint.every': 1,
  'fedpm.persistent_optimizer': True,
  'evaluation.every': 2,
}


def small(**changes):
  config = configs.default()
  config.update_from_flattened_dict(SMALL | changes)
  return config


def command(workdir, *extra, **changes):
  flags = [f'--config.{k}={v}' for k, v in (SMALL | changes).items()]
  return [
    sys.executable,
    '-m',
    'fedpm_jax.train',
    f'--workdir={workdir}',
    *flags,
    *extra,
  ]


def outcome(workdir):
  """What must be the same: all metrics but times, and the model's bytes."""
  rows = [
    {k: v for k, v in row.items() if not k.startswith('time/')}
    for row in records.read_rows(workdir / 'metrics.jsonl')
  ]
  model = (workdir / 'model.fedpm').read_bytes()
  return rows, hashlib.sha256(model).hexdigest()
