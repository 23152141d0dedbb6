"""The data set toy/1.0.0, as TensorFlow Datasets prepares it."""

import io
import json
import shutil
import types

import numpy as np


def toy_arrays():
  """Random images, not square and with 3 channels, so that axes show."""
  rng = np.random.default_rng(0)
  return {
    'x_train': rng.integers(0, 256, (23, 6, 4, 3), np.uint8),
    'y_train': rng.integers(0, 5, 23, np.int32),
    'x_test': rng.integers(0, 256, (7, 6, 4, 3), np.uint8),
    'y_test': rng.integers(0, 5, 7, np.int32),
  }


def prepare(root):
  """Writes toy/1.0.0 into a TFDS directory, without TensorFlow."""
  import tensorflow_datasets as tfds
  from PIL import Image

  arrays = toy_arrays()

  def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, 'PNG')
    buffer.seek(0)
    return buffer

  class Base(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
      features = {
        'image': tfds.features.Image(shape=(6, 4, 3)),
        'label': tfds.features.ClassLabel(num_classes=5),
      }
      return tfds.core.DatasetInfo(
        builder=self,
        features=tfds.features.FeaturesDict(features),
        disable_shuffling=True,
      )

    def _split_generators(self, dl_manager):
      return {
        split: self._generate_examples(split) for split in ('train', 'test')
      }

    def _generate_examples(self, split):
      rows = zip(arrays[f'x_{split}'], arrays[f'y_{split}'], strict=True)
      for i, (x, y) in enumerate(rows):
        yield i, {'image': png(x), 'label': int(y)}

  builder = types.new_class('Toy', (Base,), {'skip_registration': True})
  builder(data_dir=root, file_format='array_record').download_and_prepare()


def copy_of_toy(root, to):
  shutil.copytree(root / 'toy' / '1.0.0', root / to)


def edit(path, change):
  content = json.loads(path.read_text())
  change(content)
  path.write_text(json.dumps(content))


def assert_toy(dataset, transposed=False):
  for field, array in toy_arrays().items():
    if transposed and array.ndim == 4:
      array = np.stack([image.transpose(1, 0, 2) for image in array])
    np.testing.assert_array_equal(getattr(dataset, field), array)
    assert getattr(dataset, field).dtype == array.dtype
  assert dataset.num_classes == 5
  assert type(dataset.num_classes) is int
