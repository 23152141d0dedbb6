"""Where clients have two classes: why FedPM loses there, and what helps.

Digits, the small CNN, 10 clients with two classes each, as in comparison.py, but
of three other seeds and on a fifth of the training set, held out.  One change
of FedPM at a time, then some that belong together; of two dense methods the
rate.  `iid` has the rows that could become a default, to see what they cost
there.  docs/results.md says what came out; two_classes_test.py has the test set.

    python -m fedpm_jax.sweep --config=configs/sweeps/two_classes.py --jobs=2
    python -m fedpm_jax.report --sweep=runs/two_classes
"""

import pathlib

from fedpm_jax.experiments import config_files, sweeps

_COMPARISON = pathlib.Path(__file__).with_name('comparison.py')

SEEDS = (100, 101, 102)
RATE = 'optimizer.learning_rate'
# What may stand behind a method's name: changes of its row in methods.py.
FEDPM = {
  '': {},
  '_rate_0.1': {RATE: 0.1},
  '_rate_0.5': {RATE: 0.5},
  '_rate_1': {RATE: 1.0},
  '_rate_2': {RATE: 2.0},
  '_epochs_1_rounds_90': {'local_epochs': 1, 'rounds': 90},
  '_epochs_6': {'local_epochs': 6},
  '_rounds_90': {'rounds': 90},
  '_reset_every_3': {'fedpm.prior_reset_every': 3},
  '_never_reset': {'fedpm.prior_schedule': 'never'},
  '_lambda_2': {'fedpm.lambda_0': 2.0},
  '_clip_0.05': {'fedpm.theta_clip': 0.05},
  '_usual_eps': {'adam.eps': 1e-8, RATE: 0.13},
  '_sgd_1000': {'optimizer.name': 'sgd', RATE: 1000.0},
  '_sgd_3000': {'optimizer.name': 'sgd', RATE: 3000.0},
  '_price_3': {'fedpm.bit_price': 3.0},
  '_price_15': {'fedpm.bit_price': 15.0},
  '_price_60': {'fedpm.bit_price': 60.0},
  '_rate_0.5_price_3': {RATE: 0.5, 'fedpm.bit_price': 3.0},
  '_rate_1_price_9': {RATE: 1.0, 'fedpm.bit_price': 9.0},
  '_rate_0.5_b1_0.9': {RATE: 0.5, 'adam.b1': 0.9},
}
DENSE = {
  '': {},
  '_rate_0.0005': {RATE: 0.0005},
  '_rate_0.002': {RATE: 0.002},
}
IID = (
  *('fedpm', 'fedpm_rate_0.5', 'fedpm_rate_1'),
  *('fedpm_rate_0.5_price_3', 'fedpm_rate_1_price_9'),
)


def run(name, split, seed, **changes):
  """One run of a method and what stands behind its name."""
  compared = config_files.load(_COMPARISON)
  methods = ('fedpm', 'eden_tenth', 'fedavg')
  method = next(m for m in methods if name.startswith(m))
  own = (FEDPM if method == 'fedpm' else DENSE)[name.removeprefix(method)]
  made = compared.run(
    data='digits',
    method=method,
    split=split,
    participation='1',
    seed=seed,
    changes={**compared.DIGITS, 'evaluation.every': 5, **changes},
  )
  made.config.update_from_flattened_dict(own)
  return sweeps.Run({**made.labels, 'method': name}, made.config)


def get_sweep():
  rows = [('c_max_2', f'fedpm{own}') for own in FEDPM]
  rows += [
    ('c_max_2', method + own)
    for method in ('eden_tenth', 'fedavg')
    for own in DENSE
  ]
  rows += [('iid', name) for name in IID]
  return [
    run(name, split, seed, **{'data.validation': 0.2})
    for seed in SEEDS
    for split, name in rows
  ]
