"""The embedded digits: scikit-learn's images, and its split of them."""

import hashlib

import numpy as np

from fedpm_jax.data import sources


def test_digits_are_scikit_learns_images_in_a_split_that_never_moves():
  import sklearn.datasets
  import sklearn.model_selection

  dataset = sources.load('digits')
  assert dataset.x_train.shape == (1437, 8, 8, 1)
  assert dataset.x_test.shape == (360, 8, 8, 1)
  assert dataset.x_train.dtype == dataset.x_test.dtype == np.uint8
  assert dataset.y_train.dtype == dataset.y_test.dtype == np.int32
  assert dataset.num_classes == 10

  bunch = sklearn.datasets.load_digits()
  x = np.concatenate([dataset.x_train, dataset.x_test])[..., 0]
  y = np.concatenate([dataset.y_train, dataset.y_test])

  def rows(images, labels):
    return sorted((int(b), a.tobytes()) for a, b in zip(images, labels))  # noqa: B905

  # Undoing the scale gives every one of the 1,797 images once.
  sixteenths = np.rint(x / 255 * 16).astype(np.uint8)
  assert rows(sixteenths, y) == rows(
    bunch.images.astype(np.uint8), bunch.target
  )
  # One grey value for each of the 17 levels, from black to white.
  values = np.unique(x)
  assert len(values) == 17
  assert (values[0], values[-1]) == (0, 255)

  # The split that every user of scikit-learn can make.
  parts = sklearn.model_selection.train_test_split(
    bunch.images, bunch.target, test_size=0.2, random_state=0
  )
  both = (dataset.x_train, dataset.x_test)
  for images, got in zip(parts[:2], both, strict=True):
    sixteenths = np.rint(got[..., 0] / 255 * 16)
    np.testing.assert_array_equal(sixteenths, images)
  np.testing.assert_array_equal(dataset.y_train, parts[2])
  np.testing.assert_array_equal(dataset.y_test, parts[3])
  digest = hashlib.sha256(dataset.x_test.tobytes() + dataset.y_test.tobytes())
  assert digest.hexdigest()[:16] == '0b7d34f344c3eb4a'
