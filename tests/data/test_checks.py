"""The door: what cannot be trained on is refused in one line."""

import numpy as np
import pytest

from fedpm_jax.data import checks, sources


def dataset(**changes):
  labels = np.arange(20) % 4
  images = np.zeros((20, 6, 6, 1), np.uint8)
  images[:, 0, 0, 0] = np.arange(20)
  made = sources.Dataset('toy', images, labels, images[:8], labels[:8], 4)
  return made._replace(**changes)


def test_a_good_one_passes_with_labels_as_int32():
  checked = checks.checked(dataset())
  assert checked.y_train.dtype == checked.y_test.dtype == np.int32
  np.testing.assert_array_equal(checked.y_train, dataset().y_train)


def test_floats_pass_with_a_range():
  half = dataset().x_train.astype(np.float32) / 255
  checks.checked(dataset(x_train=half, x_test=half[:8], value_range=(0.0, 1.0)))


def floats(low=0.0, high=1.0, value_range=(0.0, 1.0)):
  images = np.linspace(low, high, 20 * 36, dtype=np.float32)
  images = images.reshape(20, 6, 6, 1)
  return {
    'x_train': images,
    'x_test': images[:8],
    'value_range': value_range,
  }


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (floats(value_range=None), r'value_range=\(low, high\)\), got float32'),
    (floats(high=1.5), r'must lie in value_range = \(0.0, 1.0\).* to 1.5'),
    (floats(value_range=(1.0, 0.0)), 'low below high'),
    (floats(high=np.nan), 'must lie in value_range .* nan'),
    ({'value_range': (0.0, 1.0)}, 'is uint8, .* leave value_range out'),
    ({'x_train': np.zeros((20, 6, 6, 1))}, 'must be uint8, or .*got float64'),
    ({'x_train': np.zeros((20, 6, 6, 1), bool)}, 'must be uint8.*got bool'),
    ({'x_train': np.zeros((20, 6, 6, 1), np.int8)}, 'must be uint8.*got int8'),
    ({'x_train': [[1]]}, r'x_train must be an array \[N, H, W, C\], got list'),
    ({'x_train': np.zeros((20, 36), np.uint8)}, r'\[N, H, W, C\], got \(20, 3'),
    ({'x_train': np.zeros((20, 6, 6, 0), np.uint8)}, 'must not be empty'),
    ({'x_test': np.zeros((0, 6, 6, 1), np.uint8)}, 'x_test must not be empty'),
    (
      {'x_train': np.zeros((20, 3, 6, 6), np.uint8)},
      r'looks like \[N, C, H, W\]: use np.moveaxis\(x_train, 1, 3\)',
    ),
    ({'x_test': np.zeros((8, 6, 5, 1), np.uint8)}, 'must be alike'),
    ({'y_train': np.arange(20) % 4 + 1}, r'\[0, num_classes = 4\).*subtract 1'),
    ({'y_test': np.full(8, -1)}, 'y_test must lie in .* got -1'),
    ({'y_test': np.full(8, 4)}, 'y_test must lie in .* to 4'),
    ({'y_train': np.zeros(20)}, r'y_train must be integers \[N\], got float64'),
    ({'y_train': np.zeros((20, 4), int)}, r'integers \[N\], got int64 \(20, 4'),
    ({'y_train': np.zeros(19, int)}, 'equally long, got 20 images and 19'),
    ({'num_classes': 1}, 'num_classes must be at least 2, got 1'),
  ],
)
def test_what_is_refused(changes, message):
  with pytest.raises(ValueError, match=message) as error:
    checks.checked(dataset(**changes))
  assert '\n' not in str(error.value)


def test_a_fingerprint_tells_data_apart():
  one, same = checks.fingerprint(dataset()), checks.fingerprint(dataset())
  assert one == same
  other = dataset().x_test.copy()
  other[0, 0, 0, 0] ^= 1
  assert checks.fingerprint(dataset(x_test=other)) != one
  swapped = dataset(y_train=dataset().y_train[::-1])
  assert checks.fingerprint(swapped) != one
