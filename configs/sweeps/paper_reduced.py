"""The experiments of paper_recipes.py but CIFAR-100, at a size for two cores.

Fewer images, smaller batches and fewer rounds; networks, clients, local epochs
and splits are those of the paper.  CIFAR-10, iid, has 120 local steps a round, as
at full size.  So accuracies are far below those of the paper, and only recipes
of the same row can be compared.  EMNIST needs `emnist47_proxy`, a stand-in of
the same 47 classes, and is labelled so.

    python -m fedpm_jax.sweep --config=configs/sweeps/paper_reduced.py --jobs=2
    python -m fedpm_jax.report --sweep=runs/paper_reduced
"""

import pathlib

from fedpm_jax.experiments import config_files

_FULL_SIZE = pathlib.Path(__file__).with_name('paper_recipes.py')

# Experiment -> images a client, batch, rounds, seeds.
SIZES = {
  ('cifar10', 'iid', '1'): (1000, 25, 10, (0, 1, 2)),
  ('cifar10', 'c_max_4', '1'): (200, 10, 20, (0,)),
  ('cifar10', 'c_max_2', '1'): (200, 10, 20, (0,)),
  ('cifar10', 'c_max_2', '0.1'): (200, 10, 30, (0,)),
  ('emnist', 'iid', '1'): (400, 10, 20, (0,)),
  ('mnist', 'iid', '1'): (30, 10, 15, (0,)),
}


def get_sweep():
  full_size = config_files.load(_FULL_SIZE)
  runs = []
  for experiment, (images, batch, rounds, seeds) in SIZES.items():
    changes = {
      'data.max_examples': images,
      'batch_size': batch,
      'rounds': rounds,
      'evaluation.every': 5,
      'evaluation.masks': 4,
      'wire.keep_every': 0,
    }
    if experiment[0] == 'emnist':
      changes['data.name'] = 'emnist47_proxy'
    for seed in seeds:
      for method in full_size.RECIPES:
        run = full_size.run(experiment, method, seed, changes)
        run.labels['data'] = run.config.data.name
        runs.append(run)
  return runs
