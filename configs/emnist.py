"""FedPM on EMNIST balanced (47 classes), as in params_emnist of the official
code.

Isik et al., "Sparse random networks for communication-efficient federated
learning", ICLR 2023.  CONV-4 (d = 1,942,767), 10 iid clients, all of them in
every round, 200 rounds.  Meant for a GPU.

    python -m fedpm_jax.train --config=configs/emnist.py

This is our recipe (`recipes.py`).  That of the official code has its weights'
scale, its gradient, its Adam and its average of masks:

    python -m fedpm_jax.train --config=configs/emnist.py:official
"""

import fedpm_jax as fp
from fedpm_jax.experiments import recipes


def get_config(recipe='ours'):
  config = fp.config()
  config.data.name = 'emnist/balanced'
  config.rounds = 200
  config.batch_size = 128
  return recipes.apply(config, recipe)
