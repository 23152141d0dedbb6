"""FedPM on CIFAR-10, as in params.yaml of the official code.

Isik et al., "Sparse random networks for communication-efficient federated
learning", ICLR 2023.  CONV-6 (d = 2,262,602), 10 iid clients, all of them in
every round, 200 rounds.  Meant for a GPU.  A public anchor: 80.25 % for the
sampled network (Universal Sample Coding, NeurIPS 2024, table 2, by all signs
this setting).

    python -m fedpm_jax.train --config=configs/cifar10.py

Its non-iid variant, 4 classes or a little more per client:

    python -m fedpm_jax.train --config=configs/cifar10.py \
        --config.data.partition=c_max --config.data.classes_per_client=4 \
        --config.data.sizes=unequal --workdir=runs/cifar10_c4

This is our recipe (`recipes.py`).  That of the official code has its weights'
scale, its gradient, its Adam and its average of masks:

    python -m fedpm_jax.train --config=configs/cifar10.py:official
"""

import fedpm_jax as fp
from fedpm_jax.experiments import recipes


def get_config(recipe='ours'):
  config = fp.config()
  config.data.name = 'cifar10'
  config.model = 'conv6'
  config.rounds = 200
  config.batch_size = 128
  return recipes.apply(config, recipe)
