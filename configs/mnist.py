"""FedPM on MNIST, as in params_mnist_conv of the official code.

Isik et al., "Sparse random networks for communication-efficient federated
learning", ICLR 2023.  CONV-4 (d = 1,933,258), 200 iid clients of 300 images,
all of them in every round, 100 rounds.

Meant for a GPU.  On a laptop, take 10 clients of 1,000 images (docs/results.md
has such a run with an older recipe):

    python -m fedpm_jax.train --config=configs/mnist.py \
        --config.num_clients=10 --config.clients_per_round=10 \
        --config.data.max_examples=1000 --config.rounds=10

In full:

    python -m fedpm_jax.train --config=configs/mnist.py

This is our recipe (`recipes.py`).  That of the official code has its weights'
scale, its gradient, its Adam and its average of masks:

    python -m fedpm_jax.train --config=configs/mnist.py:official
"""

import fedpm_jax as fp
from fedpm_jax.experiments import recipes


def get_config(recipe='ours'):
  config = fp.config()
  config.data.name = 'mnist'
  config.num_clients = 200
  config.clients_per_round = 200
  config.rounds = 100
  config.batch_size = 128
  return recipes.apply(config, recipe)
