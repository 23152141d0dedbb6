"""Data sets as arrays in memory: the embedded digits, and prepared TFDS data.

`load('digits')` works everywhere, offline.  Any other name is looked up among
the directories that TensorFlow Datasets has prepared.  Nothing is downloaded
and TensorFlow is not imported, so a missing data set gives one line at once
instead of minutes of retries.  Decoding tens of thousands of PNG images takes
ten seconds, so the arrays are cached.
"""

import contextlib
import hashlib
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tqdm
from absl import logging

from fedpm_jax.data import cache, prepared
from fedpm_jax.data.prepared import DataNotFound
from fedpm_jax.system import quiet, text

# Part of the cache's key: raise it when the same files decode to other arrays.
CACHE_FORMAT = 1

# Data sets whose files hold every image with rows and columns swapped.
TRANSPOSED = ('emnist', 'emnist47_proxy')

# How many of the embedded digits are test examples.  These are always the same
# ones, whatever the seed of an experiment is.
_DIGITS_TEST = 360

# Records that are read together cost half of what they cost one by one.
_DECODE_CHUNK = 500


class Dataset(NamedTuple):
  """A classification data set, in the order of its files.

  Images are uint8, or floats with a range, and are scaled to [-1, 1].  Rows of
  a table and tokens reach the module as they are.

  Attributes:
    name: as given to `load`.
    x_train: `[N, H, W, C]`, uint8, or float32 with a `value_range`; or int32
      tokens `[N, L]`; or float32 rows `[N, F]`; or whatever `[N, ...]` of these
      types a module of one's own takes.
    y_train: int32 `[N]`, in [0, num_classes).
    x_test: `[N_test, H, W, C]`, of the same type.
    y_test: int32 `[N_test]`, in [0, num_classes).
    num_classes: how many classes a label may name.
    value_range: (low, high) of floats that are scaled from it to [-1, 1]; None
      of uint8, which is scaled from [0, 255], and of what is not scaled.
  """

  name: str
  x_train: np.ndarray
  y_train: np.ndarray
  x_test: np.ndarray
  y_test: np.ndarray
  num_classes: int
  value_range: tuple[float, float] | None = None


def load(
  name: str,
  *,
  data_dir: str | os.PathLike | None = None,
  cache_dir: str | os.PathLike | None = None,
) -> Dataset:
  """Loads a data set by name.

  Args:
    name: 'digits' (1,797 images of 8x8, part of this package) or a TFDS
      name, `name[/config][:version]`; without a version the newest prepared.
    data_dir: TFDS directory; default `$TFDS_DATA_DIR`, else
      `~/tensorflow_datasets`.
    cache_dir: where decoded arrays are kept; default `fedpm_jax_cache` in
      data_dir or, where that cannot be written, `~/.cache/fedpm_jax`.

  Returns:
    The data set; the images of EMNIST are turned upright.

  Raises:
    DataNotFound: the data set is not prepared under data_dir, not stored as
      array_record, or damaged.
    FileError: its JSON files are damaged.
    ValueError: the name is malformed, or the features are not image and label.
  """
  if name == 'digits':
    return _digits()
  root = pathlib.Path(
    data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  )
  root = root.expanduser().absolute()
  directory = prepared.find(name, root)
  full_name = directory.relative_to(root).as_posix()

  # Data prepared anew under the same version must not meet the old arrays.
  metadata = hashlib.sha256()
  for file in ('dataset_info.json', 'features.json'):
    metadata.update((directory / file).read_bytes())
  key = f'{full_name}, format {CACHE_FORMAT}, metadata {metadata.hexdigest()}'
  if cache_dir is not None:
    folders = [pathlib.Path(cache_dir)]
  else:
    folders = [root / 'fedpm_jax_cache', pathlib.Path('~/.cache/fedpm_jax')]
  paths = [
    folder.expanduser() / f'{full_name}-format{CACHE_FORMAT}.npz'
    for folder in folders
  ]
  for path in paths:
    arrays = cache.read(path, key)
    if arrays is not None:
      return Dataset(
        name,
        arrays['x_train'],
        arrays['y_train'],
        arrays['x_test'],
        arrays['y_test'],
        int(arrays['num_classes']),
      )
  dataset = _decode(name, root, directory)
  # The first folder that can be written gets the cache; without any, the data
  # are decoded again next time.
  arrays = dataset._asdict()
  del arrays['name'], arrays['value_range']  # of a named set: uint8
  for path in paths:
    try:
      cache.write(path, key, arrays)
      break
    except OSError as error:
      logging.warning('Could not cache %s in %s: %s', name, path, error)
  return dataset


def _digits() -> Dataset:
  """The 8x8 digits of scikit-learn, 1,437 for training and 360 for testing.

  E. Alpaydin and C. Kaynak, "Optical recognition of handwritten digits", UCI
  Machine Learning Repository, 1998, CC BY 4.0.  This is a copy of the part that
  scikit-learn has, in its order, because importing scikit-learn takes over a
  second.
  """
  with np.load(pathlib.Path(__file__).with_name('digits.npz')) as stored:
    images, labels = stored['images'], stored['labels'].astype(np.int32)
  # 0..16 to 0..255, rounded in integers, because every library computes these
  # alike.
  images = (images.astype(np.int64) * 255 + 8) // 16
  images = images.astype(np.uint8)[..., None]
  # scikit-learn's train_test_split(..., test_size=0.2, random_state=0), so that
  # any of its models can be compared; NumPy has frozen this old generator.
  order = np.random.RandomState(0).permutation(len(labels))
  test, train = order[:_DIGITS_TEST], order[_DIGITS_TEST:]
  return Dataset(
    'digits', images[train], labels[train], images[test], labels[test], 10
  )


def _decode(name: str, root: pathlib.Path, directory: pathlib.Path) -> Dataset:
  """Decodes both splits of the data set in `directory`, in index order.

  Args:
    name: as given to `load`, for messages.
    root: the TFDS directory.
    directory: the version directory of the data set, below `root`.
  """
  # Where the library itself is missing or broken, no file is to blame.
  import tensorflow_datasets  # noqa: F401

  damage = lambda: _damage(name, root, directory)
  with damage():
    splits = _open(root, directory)
    sizes = [len(split) for split in splits]
    features = splits[0].dataset_info.features
  shape, num_classes = _shape_and_classes(name, directory, features)
  # An image of bytes and a label of 4 bytes for each example.
  num_bytes = sum(sizes) * (math.prod(shape) + 4)
  prepared.check_size(name, root, directory, num_bytes)
  with damage(), quiet.without('absl', 'OpenCV is not'):
    splits[1][0]  # so that a missing file shows before a minute of decoding
    arrays = [
      array
      for split, source in zip(('train', 'test'), splits, strict=True)
      for array in _decode_split(f'{name} {split}', source, shape)
    ]
  x_train, y_train, x_test, y_test = arrays
  for y in (y_train, y_test):
    if len(y) == 0 or y.min() < 0 or y.max() >= num_classes:
      got = text.one_line(np.unique(y))
      raise ValueError(
        f'Data set {name!r} in {directory} must have labels in [0,'
        f' {num_classes}), got {got}.'
      )
  if directory.relative_to(root).parts[0] in TRANSPOSED:
    x_train = np.ascontiguousarray(x_train.swapaxes(1, 2))
    x_test = np.ascontiguousarray(x_test.swapaxes(1, 2))
  return Dataset(name, x_train, y_train, x_test, y_test, num_classes)


def _decode_split(
  title: str, source: Any, shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
  """Images, uint8 `[N, *shape]`, and labels, int32 `[N]`, of a data source."""
  x = np.empty((len(source), *shape), np.uint8)
  y = np.empty(len(source), np.int32)
  # `disable=None` shows the bar on a terminal only.
  with tqdm.tqdm(
    total=len(y), desc=title, unit='image', disable=None
  ) as progress:
    for start in range(0, len(y), _DECODE_CHUNK):
      rows = range(start, min(start + _DECODE_CHUNK, len(y)))
      examples = source.__getitems__(list(rows))
      for row, example in zip(rows, examples, strict=True):
        x[row], y[row] = example['image'], example['label']
      progress.update(len(rows))
  return x, y


@contextlib.contextmanager
def _damage(
  name: str, root: pathlib.Path, directory: pathlib.Path
) -> Iterator[None]:
  """Turns whatever the library raises over damaged files into DataNotFound."""
  try:
    yield
  except MemoryError:
    raise
  # RuntimeError is array_record's word for any bad file.  Where JSON is not as
  # it should be, the library raises anything from KeyError to ParseError.
  except Exception as error:
    reason = text.one_line(f'{type(error).__name__}: {error}')
    raise DataNotFound(
      f'Data set {name!r} in {directory} is damaged ({text.short(reason, 300)}).'
      f' {prepared.remedy(name, root)}'
    ) from error


def _open(root: pathlib.Path, directory: pathlib.Path) -> tuple[Any, Any]:
  """The splits train and test, as data sources of TFDS (which has no types)."""
  # A cached data set, and the digits, do not need this import.
  import tensorflow_datasets as tfds

  relative = directory.relative_to(root)
  splits = ['train', 'test']
  try:
    # With the version in the name, the library takes the files in `root`, and
    # neither its own builder nor what that would look up on the network.
    train, test = tfds.data_source(
      f'{relative.parent.as_posix()}:{relative.name}',
      split=splits,
      data_dir=root,
      download=False,
    )
  except ValueError:  # a directory whose name is none of the library's
    builder: Any = tfds.builder_from_directory(directory)
    train, test = builder.as_data_source(splits)
  return train, test


def _shape_and_classes(
  name: str, directory: pathlib.Path, features: Any
) -> tuple[tuple[int, int, int], int]:
  """The shape of an image and the number of classes.

  Args:
    name: of the data set, for messages.
    directory: of its files, for messages.
    features: what TFDS says about its examples.

  Raises:
    ValueError: there is no such image or label; it lists what there is.
  """
  import tensorflow_datasets as tfds

  kinds: Any = tfds.features
  found = dict(features.items()) if hasattr(features, 'items') else {}
  image: Any = found.get('image')
  label: Any = found.get('label')
  if (
    isinstance(image, kinds.Image)
    and isinstance(label, kinds.ClassLabel)
    and image.np_dtype == np.uint8
    and len(image.shape) == 3
    and None not in image.shape
  ):
    return image.shape, label.num_classes
  got = text.one_line(found or features)
  raise ValueError(
    f'Data set {name!r} in {directory} must have the features image (Image,'
    ' uint8, [H, W, C] of fixed size) and label (ClassLabel), got'
    f' {got}.'
  )
