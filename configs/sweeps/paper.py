"""The comparison at the size of the FedPM paper; meant for a GPU.

CIFAR-10, CONV-6 (d = 2,262,602), 10 clients, 3 epochs of batch 128 a round, 200
rounds, three seeds, all methods of configs/methods.py: iid first, then c_max = 4
with clients of unequal size, then 5 of 50 clients with c_max = 2, as in the
yaml files of the official code (see configs/cifar10.py, cifar10_partial.py).
What trains theta has the paper's Adam, 0.1.  `fedpm` has the recipe `ours` of
cifar10.py, and `fedpm_official` the authors' switches.  The constants of all
others are those that were found on the digits and MNIST.

    python -m fedpm_jax.sweep --config=configs/sweeps/paper.py --only=split=iid
    python -m fedpm_jax.report --sweep=runs/paper --target=cifar10=0.7
"""

import pathlib

from fedpm_jax.experiments import config_files, recipes, sweeps

_METHODS = pathlib.Path(__file__).parent.parent / 'methods.py'

SEEDS = (0, 1, 2)
PAPER = {
  'data.name': 'cifar10',
  'model': 'conv6',
  'batch_size': 128,
  'rounds': 200,
  'evaluation.every': 5,
  'evaluation.batch_size': 1000,
  'wire.keep_every': 0,
}
ADAM = {'optimizer.learning_rate': 0.1, 'adam.b1': 0.9, 'adam.eps': 1e-8}
SPLITS = {
  'iid': {},
  'c_max_4': {
    'data.partition': 'c_max',
    'data.classes_per_client': 4,
    'data.sizes': 'unequal',
  },
  'c_max_2': {
    'data.partition': 'c_max',
    'data.classes_per_client': 2,
    'data.sizes': 'unequal',
    'num_clients': 50,
    'clients_per_round': 5,
  },
}


def get_sweep():
  methods = config_files.load(_METHODS)
  rows = {
    name: ADAM if row.get('algorithm', 'fedpm') == 'fedpm' else {}
    for name, row in methods.METHODS.items()
  }
  rows['fedpm'] = ADAM | recipes.RECIPES['ours']
  rows['fedpm_official'] = ADAM | recipes.RECIPES['official']
  runs = []
  for split, changes in SPLITS.items():
    for seed in SEEDS:
      for method, own in rows.items():
        config = methods.get_config(method.removesuffix('_official'))
        config.update_from_flattened_dict(
          {**PAPER, **own, **changes, 'seed': seed}
        )
        labels = {
          'data': 'cifar10',
          'method': method,
          'split': split,
          'participation': '0.1' if 'num_clients' in changes else '1',
          'seed': str(seed),
        }
        runs.append(sweeps.Run(labels, config))
  return runs
