"""FedPM on CIFAR-10 with partial participation, as in params_cifar10 of the
official code.

Isik et al., "Sparse random networks for communication-efficient federated
learning", ICLR 2023.  CONV-6 (d = 2,262,602), 5 of 50 clients a round, c_max = 2
(about three classes a client: it is not a hard cap there), 200 rounds.  Clients
start with a fresh optimiser: a state of ten rounds ago helps nobody.  Meant for
a GPU.

    python -m fedpm_jax.train --config=configs/cifar10_partial.py

This is our recipe (`recipes.py`).  That of the official code has its weights'
scale, its gradient, its Adam and its average of masks:

    python -m fedpm_jax.train --config=configs/cifar10_partial.py:official
"""

import fedpm_jax as fp
from fedpm_jax.experiments import recipes


def get_config(recipe='ours'):
  config = fp.config()
  config.data.name = 'cifar10'
  config.data.partition = 'c_max'
  config.data.classes_per_client = 2
  config.data.sizes = 'unequal'
  config.model = 'conv6'
  config.num_clients = 50
  config.clients_per_round = 5
  config.rounds = 200
  config.batch_size = 128
  return recipes.apply(config, recipe)
