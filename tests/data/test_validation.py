"""A validation set is a part of the training set, and no test set is read."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpm_jax.data import sources, validation


class Untouchable:
  """Whatever is done with it fails."""

  def __getattribute__(self, name):
    raise AssertionError(f'the test set was read: {name}')


def numbered(total):
  """Example i has the image and the label i; the test set cannot be read."""
  labels = np.arange(total, dtype=np.int32)
  images = labels.reshape(-1, 1, 1, 1).astype(np.float32)
  return sources.Dataset(
    'numbered', images, labels, Untouchable(), Untouchable(), total
  )


@given(st.integers(2, 300), st.floats(0.001, 0.999), st.integers(0, 2**32 - 1))
def test_both_parts_are_the_whole_for_any_size_and_share(total, share, seed):
  data = numbered(total)
  count = round(share * total)
  if count in (0, total):
    with pytest.raises(ValueError, match=f'holds out {count} of {total} train'):
      validation.held_out(data, share, seed=seed)
    return
  made = validation.held_out(data, share, seed=seed)
  assert len(made.y_test) == count
  # Disjoint, nothing is lost, and each part is in the order of the whole.
  both = np.concatenate([made.y_train, made.y_test])
  np.testing.assert_array_equal(np.sort(both), data.y_train)
  for part, images in (
    (made.y_train, made.x_train),
    (made.y_test, made.x_test),
  ):
    assert (np.diff(part) > 0).all()
    np.testing.assert_array_equal(images.reshape(-1), part)
  again = validation.held_out(data, share, seed=seed)
  np.testing.assert_array_equal(made.y_test, again.y_test)


def test_every_example_may_be_held_out_and_the_seed_says_which():
  held = np.zeros(20)
  for seed in range(400):
    held[validation.held_out(numbered(20), 0.25, seed=seed).y_test] += 1
  assert held.sum() == 400 * 5
  # 100 on average; the standard deviation of a binomial is 8.7.
  assert np.abs(held - 100).max() < 4.5 * 8.7
