"""A validation set, for constants that are chosen by looking at accuracies.

It is a part of the training set and takes the place of the test set, so that
the test set is not looked at before all choices are made.
"""

import numpy as np

from fedpm_jax.data.sources import Dataset
from fedpm_jax.prng import keys


def held_out(dataset: Dataset, share: float, *, seed: int) -> Dataset:
  """The data set with a random part of its training set as its test set.

  Args:
    dataset: its own test set is neither read nor kept.
    share: of the training examples, in (0, 1), rounded to whole ones.
    seed: the experiment's; the same one holds out the same examples.

  Returns:
    A data set; both parts are in the order of the training set.

  Raises:
    ValueError: one of the two parts would be empty.
  """
  total = len(dataset.y_train)
  count = round(share * total)
  if not 0 < count < total:
    raise ValueError(
      f'config.data.validation = {share} holds out {count} of {total} training'
      ' examples: it must hold out one at least and leave one at least.'
    )
  rng = keys.host_rng(seed, keys.Purpose.VALIDATION)
  is_held = np.zeros(total, np.bool_)
  is_held[rng.permutation(total)[:count]] = True
  return dataset._replace(
    x_train=dataset.x_train[~is_held],
    y_train=dataset.y_train[~is_held],
    x_test=dataset.x_train[is_held],
    y_test=dataset.y_train[is_held],
  )
