"""Every experiment of the FedPM paper, with our recipe and the authors' own.

Isik et al., "Sparse random networks for communication-efficient federated
learning", ICLR 2023; the settings are those of the yaml files of its code (see
the configurations below), at full size.  Meant for a GPU; `paper_reduced.py` has
the same at a size for two cores.  `fedpm` is our recipe, `fedpm_official` that
of the authors' code (`fedpm_jax/experiments/recipes.py`).  `paper.py` compares
other methods with both, on CIFAR-10.

    python -m fedpm_jax.sweep --config=configs/sweeps/paper_recipes.py
    python -m fedpm_jax.report --sweep=runs/paper_recipes
"""

import pathlib

from fedpm_jax.experiments import config_files, sweeps

_CONFIGS = pathlib.Path(__file__).parent.parent
_NON_IID = {'data.partition': 'c_max', 'data.sizes': 'unequal'}

SEEDS = (0, 1, 2)
RECIPES = {'fedpm': 'ours', 'fedpm_official': 'official'}
# Data, split and share of clients in a round -> configuration and changes.
EXPERIMENTS = {
  ('cifar10', 'iid', '1'): ('cifar10', {}),
  ('cifar10', 'c_max_4', '1'): (
    'cifar10',
    _NON_IID | {'data.classes_per_client': 4},
  ),
  ('cifar10', 'c_max_2', '1'): (
    'cifar10',
    _NON_IID | {'data.classes_per_client': 2},
  ),
  ('cifar10', 'c_max_2', '0.1'): ('cifar10_partial', {}),
  ('mnist', 'iid', '1'): ('mnist', {}),
  ('emnist', 'iid', '1'): ('emnist', {}),
  ('cifar100', 'iid', '1'): ('cifar100', {}),
}
FULL = {
  'evaluation.every': 5,
  'evaluation.masks': 4,
  'evaluation.batch_size': 1000,
  'wire.keep_every': 0,
}


def run(experiment, method, seed, changes):
  """One run: a recipe of an experiment's configuration, with some changes."""
  data, split, participation = experiment
  name, own = EXPERIMENTS[experiment]
  file = config_files.load(_CONFIGS / f'{name}.py')
  config = file.get_config(RECIPES[method])
  config.update_from_flattened_dict({**own, **changes, 'seed': seed})
  labels = {
    'data': data,
    'method': method,
    'split': split,
    'participation': participation,
    'seed': str(seed),
  }
  return sweeps.Run(labels, config)


def get_sweep():
  return [
    run(experiment, method, seed, FULL)
    for experiment in EXPERIMENTS
    for seed in SEEDS
    for method in RECIPES
  ]
