"""Does one price of a bit suit every size?

Digits, as in digits.py, on a quarter of the training set that is held out, two
seeds.  Each size changes one thing: the number of clients, and with it the
examples of each; local epochs; the network, and with it d.  `fedpm_price_P` has
`fedpm.bit_price` P, of which 16 is that of our recipe for larger data sets.

    python -m fedpm_jax.sweep --config=configs/sweeps/bit_price.py --jobs=2
    python benchmarks/bit_price.py runs/bit_price results/bit_price
"""

import pathlib

from fedpm_jax.experiments import config_files, sweeps

_RATE = pathlib.Path(__file__).with_name('rate.py')

SEEDS = (100, 101)
PRICES = (0, 16, 50)
SIZES = {
  'default': {},
  'clients_5': {'num_clients': 5, 'clients_per_round': 5},
  'clients_30': {'num_clients': 30, 'clients_per_round': 30},
  'epochs_6': {'local_epochs': 6},
  'cnn': {'model': 'cnn'},
  'conv6': {'model': 'conv6'},
}


def get_sweep():
  return [
    run(size, price, seed)
    for seed in SEEDS
    for size in SIZES
    for price in PRICES
  ]


def run(size, price, seed):
  """One run of a size, at a price."""
  changes = {'fedpm.bit_price': float(price), **SIZES[size]}
  labels = {
    'data': 'digits',
    'size': size,
    'method': f'fedpm_price_{price}',
    'seed': str(seed),
  }
  return sweeps.Run(labels, config_files.load(_RATE).held_out(seed, changes))
