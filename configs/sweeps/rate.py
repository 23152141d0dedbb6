"""Accuracy against bits: the ways to make FedPM's clients send less.

Digits, CONV-4, 10 iid clients, 30 rounds, as in digits.py, on a quarter of the
training set that is held out, three seeds.  The row `fedpm` is the default.  A
way is a switch, and its values are a line of the picture:

  price       `fedpm.bit_price`, what leaving the server's theta costs
  rate        smaller or larger steps; at twice the rate with a price, too
  persistent  Adam's moments are kept from round to round, which needs 2 d floats
              a client; with the default's constants, at three rates
  usual_eps   Adam's usual eps, 1e-8, at three rates

    python -m fedpm_jax.sweep --config=configs/sweeps/rate.py --jobs=2
    python benchmarks/rate_curve.py runs/rate results/rate
"""

from fedpm_jax.experiments import config_files, sweeps

SEEDS = (100, 101, 102)
RATE = 'optimizer.learning_rate'
PRICE = 'fedpm.bit_price'
PERSISTENT = {'fedpm.persistent_optimizer': True}
USUAL_EPS = {'adam.eps': 1e-8}
# Way -> value -> changes of digits.py.
WAYS = {
  'price': {p: {PRICE: p} for p in (4, 12, 40, 120)},
  'rate': {r: {RATE: r} for r in (0.06, 0.12, 0.5)},
  'rate_0.5_price': {p: {RATE: 0.5, PRICE: p} for p in (12, 40, 120)},
  'persistent_rate': {r: PERSISTENT | {RATE: r} for r in (0.06, 0.12, 0.25)},
  'usual_eps_rate': {r: USUAL_EPS | {RATE: r} for r in (0.03, 0.06, 0.13)},
}


def held_out(seed, changes):
  """The digits on the part of their training set that is held out."""
  config = config_files.load(config_files.find('digits')).get_config()
  config.update_from_flattened_dict(
    {
      'seed': seed,
      'data.validation': 0.25,
      'evaluation.every': 5,
      'wire.keep_every': 0,
      **changes,
    }
  )
  return config


def get_sweep():
  rows = {'fedpm': {}} | {
    f'fedpm_{way}_{value:g}': changes
    for way, values in WAYS.items()
    for value, changes in values.items()
  }
  runs = []
  for seed in SEEDS:
    for name, changes in rows.items():
      labels = {
        'data': 'digits',
        'method': name,
        'split': 'iid',
        'participation': '1',
        'seed': str(seed),
      }
      runs.append(sweeps.Run(labels, held_out(seed, changes)))
  return runs
