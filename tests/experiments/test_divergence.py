"""A run that diverges says what it was, after a look."""

import re

import numpy as np
import pytest
from whole_runs import small

import fedpm_jax as fp


def _dataset(value_range, rng):
  low, high = value_range
  images = np.asarray(rng.uniform(low, high, (80, 8, 8, 1)), np.float32)
  images = np.clip(images, np.float32(low), np.float32(high))
  labels = np.arange(80) % 10
  return fp.Dataset('mine', images, labels, images, labels, 10, value_range)


# JAX warns of the range of 1e-40, whose inverse is too large for a float32.
@pytest.mark.filterwarnings('ignore:overflow encountered in cast')
@pytest.mark.parametrize(
  ('changes', 'value_range', 'cause'),
  [
    (
      {'optimizer.name': 'sgd', 'optimizer.learning_rate': 1e38},
      (0.0, 1.0),
      r'steps are the likely cause: labels and inputs are in .* largest output'
      r' was \d.*Lower config\.optimizer\.learning_rate = 1e\+38 \(of sgd',
    ),
    (
      {'weights.gain': 1e10},
      (0.0, 1.0),
      r'weights are the cause: .* network makes outputs of (inf|nan|\de\+\d+) of'
      r' 64 inputs\. Lower config\.weights\.gain = 1e\+10',
    ),
    (
      {},
      (0.0, 1e-40),
      r'inputs are the cause: scaled from value_range = \(0\.0, 1e-40\)',
    ),
    (
      {},
      (-3e38, 3e38),
      r'inputs are the cause: scaled from value_range = \(-3e\+38, 3e\+38\)',
    ),
  ],
)
def test_the_cause_is_the_one_that_applies(rng, changes, value_range, cause):
  config = small(rounds=3, model='cnn', **changes)
  run = fp.Experiment(config, dataset=_dataset(value_range, rng))
  with pytest.raises(FloatingPointError) as caught:
    list(run.rounds())
  message = str(caught.value)
  assert message.startswith('Round ')
  assert '\n' not in message
  assert re.search(cause, message), message
  assert message.count(' cause') == 1
