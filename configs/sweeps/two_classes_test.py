"""What two_classes.py has chosen, on the test set with ten other seeds.

python -m fedpm_jax.sweep --config=configs/sweeps/two_classes_test.py
python -m fedpm_jax.report --sweep=runs/two_classes_test
"""

import pathlib

from fedpm_jax.experiments import config_files

_CHOSEN_BY = pathlib.Path(__file__).with_name('two_classes.py')

SEEDS = range(10)
CHOSEN = (
  *('fedpm', 'fedpm_rate_0.5_price_3', 'fedpm_rate_1'),
  *('eden_tenth', 'fedavg_rate_0.002'),
)


def get_sweep():
  study = config_files.load(_CHOSEN_BY)
  return [study.run(name, 'c_max_2', seed) for seed in SEEDS for name in CHOSEN]
