"""FedPM on CIFAR-100, as in params_cifar100 of the official code.

Isik et al., "Sparse random networks for communication-efficient federated
learning", ICLR 2023.  CONV-10 (d = 19,197,092), 10 iid clients, all of them in
every round, 400 rounds.  Meant for a GPU.

    python -m fedpm_jax.train --config=configs/cifar100.py \
        --config.rounds=50 --workdir=runs/cifar100_50
"""

import fedpm_jax as fp


def get_config():
  config = fp.config()
  config.data.name = 'cifar100'
  config.model = 'conv10'
  config.rounds = 400
  config.batch_size = 128
  return config
