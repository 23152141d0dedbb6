"""Whole runs in memory, one after another; see test_several_hosts.py.

With the flags of `several_hosts`, this process is one of several hosts.
"""

import hashlib
import json

import jax
import numpy as np
import several_hosts
from small_runs import small

from fedpm_jax.experiments.experiment import Experiment
from fedpm_jax.system import hosts

RUNS = {
  # All that a round of masks sums and collects over hosts: masks times weights,
  # who was left out, clients' states, guesses.  Each host brings the examples of
  # its share of the cohort.
  'masks': {
    'num_clients': 6,
    'data.partition': 'dirichlet',
    'data.sizes': 'unequal',
    'data.max_examples': 60,
    'aggregation.weights': 'examples',
    'robust.max_distance': 0.082,
    'optimizer.learning_rate': 2.0,
    'fedpm.persistent_optimizer': True,
    'execution.examples': 'cohort',
  },
  'floats': {
    'algorithm': 'fedavg',
    'optimizer.name': 'sgd',
    'wire.compressor': 'identity',
    'wire.uplink': 'raw',
    'wire.downlink': 'raw',
  },
}


def run(changes):
  """The rows of a run with a digest of all it leaves; and what is floats."""
  changes = {
    'num_clients': 5,
    'clients_per_round': 5,
    'model': 'lenet',
  } | changes
  experiment = Experiment(small(**changes))
  rows, digest = [], hashlib.sha256()
  for _ in range(2):
    done = experiment.run_round(keep=True)
    rows.append(dict(done.metrics) | experiment.evaluate())
    if done.kept:
      for array in done.kept:
        digest.update(np.asarray(array).tobytes())
  for leaf in jax.tree.leaves(experiment.state):
    digest.update(np.asarray(leaf).tobytes())
  model = np.asarray(experiment.final_values(experiment.state))
  # The loss of the test set is a sum of floats, by batches that hosts share.
  losses = [row['eval/loss_mean'] for row in rows]
  left_out = ('time/', 'eval/loss')
  exact = [
    {k: v for k, v in row.items() if not k.startswith(left_out)} for row in rows
  ]
  return {
    'exact': [exact, digest.hexdigest()],
    'floats': [losses, model[::97].tolist()],
  }


def main():
  hosts.join(*several_hosts.flags())
  found = {name: run(changes) for name, changes in RUNS.items()}
  print(json.dumps(found), flush=True)


if __name__ == '__main__':
  main()
