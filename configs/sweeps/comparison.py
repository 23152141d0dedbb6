"""The comparison at laptop size: every method, four splits, three seeds.

Digits: the small CNN (d = 151,306), 10 clients of about 143 images, 3 epochs of
batch 32 a round, 30 rounds; iid also with 3 of the 10 clients a round.  MNIST:
LeNet-300-100 (d = 266,610), 10 clients of 500 images, one epoch of batch 32 a
round, 30 rounds, iid.  All clients take part unless `participation` says less.

    python -m fedpm_jax.sweep --config=configs/sweeps/comparison.py --jobs=2
    python -m fedpm_jax.report --sweep=runs/comparison

MNIST must have been prepared, docs/configuration.md says how; `--only
data=digits` does without.
"""

import pathlib

from fedpm_jax.experiments import config_files, sweeps

_METHODS = pathlib.Path(__file__).parent.parent / 'methods.py'

SEEDS = (0, 1, 2)
SPLITS = {
  'iid': {},
  'c_max_4': {'data.partition': 'c_max', 'data.classes_per_client': 4},
  'c_max_2': {'data.partition': 'c_max', 'data.classes_per_client': 2},
  'dirichlet_0.3': {'data.partition': 'dirichlet', 'data.alpha': 0.3},
}
DIGITS = {'model': 'cnn', 'wire.keep_every': 0}
MNIST = {
  'data.name': 'mnist',
  'data.max_examples': 500,
  'model': 'lenet',
  'local_epochs': 1,
  'evaluation.every': 1,  # for the bytes until an accuracy is reached
  'evaluation.batch_size': 1000,
  'wire.keep_every': 0,
}
PARTIAL = {'clients_per_round': 3}


def run(*, data, method, split, participation, seed, changes):
  """One run: a method's configuration with some changes."""
  config = config_files.load(_METHODS).get_config(method)
  config.update_from_flattened_dict({**changes, **SPLITS[split], 'seed': seed})
  labels = {
    'data': data,
    'method': method,
    'split': split,
    'participation': participation,
    'seed': str(seed),
  }
  return sweeps.Run(labels, config)


def get_sweep():
  cases = [('mnist', 'iid', '1', MNIST)]
  cases += [('digits', split, '1', DIGITS) for split in SPLITS]
  cases += [('digits', 'iid', '0.3', DIGITS | PARTIAL)]
  return [
    run(
      data=data,
      method=method,
      split=split,
      participation=participation,
      seed=seed,
      changes=changes,
    )
    for data, split, participation, changes in cases
    for seed in SEEDS
    for method in config_files.load(_METHODS).METHODS
  ]
