"""FedPM on CIFAR-100, as in params_cifar100 of the official code.

Isik et al., "Sparse random networks for communication-efficient federated
learning", ICLR 2023.  CONV-10 (d = 19,197,092), 10 iid clients, all of them in
every round, 400 rounds.  Meant for a GPU.

    python -m fedpm_jax.train --config=configs/cifar100.py \
        --config.rounds=50 --workdir=runs/cifar100_50

This is our recipe (`recipes.py`).  That of the official code has its weights'
scale, its gradient, its Adam and its average of masks:

    python -m fedpm_jax.train --config=configs/cifar100.py:official
"""

import fedpm_jax as fp
from fedpm_jax.experiments import recipes


def get_config(recipe='ours'):
  config = fp.config()
  config.data.name = 'cifar100'
  config.model = 'conv10'
  config.rounds = 400
  config.batch_size = 128
  return recipes.apply(config, recipe)
