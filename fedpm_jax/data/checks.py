"""A data set is checked at the door, once, wherever it comes from.

What is wrong is said in one line, before anything is trained: what was got,
what was expected, what to do.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from zlib_ng import zlib_ng

from fedpm_jax.data.sources import Dataset


def checked(dataset: Dataset) -> Dataset:
  """The data set with plain types and labels as int32, if it can be trained on.

  Images are uint8, or float32 with a stated `value_range`; both are scaled to
  [-1, 1] inside the network, from [0, 255] or from that range.

  Raises:
    ValueError: a type, a shape, a value or a label that cannot be meant.
  """
  arrays = {
    name: np.asarray(array)  # One of JAX will do.
    for name, array in dataset._asdict().items()
    if name[:2] in ('x_', 'y_') and hasattr(array, '__array__')
  }
  dataset = dataset._replace(num_classes=int(dataset.num_classes), **arrays)
  if dataset.value_range is not None:
    low, high = dataset.value_range
    dataset = dataset._replace(value_range=(float(low), float(high)))
  if dataset.num_classes < 2:
    raise ValueError(
      f'num_classes must be at least 2, got {dataset.num_classes}.'
    )
  for split in ('train', 'test'):
    images, labels = (getattr(dataset, f'{x}_{split}') for x in 'xy')
    _check_images(f'x_{split}', images, dataset.value_range)
    _check_labels(f'y_{split}', labels, dataset.num_classes)
    if len(images) != len(labels):
      raise ValueError(
        f'x_{split} and y_{split} must be equally long, got {len(images)} images'
        f' and {len(labels)} labels.'
      )
  train, test = dataset.x_train, dataset.x_test
  if (train.shape[1:], train.dtype) != (test.shape[1:], test.dtype):
    raise ValueError(
      'x_train and x_test must be alike, got images of'
      f' {train.dtype} {train.shape[1:]} and {test.dtype} {test.shape[1:]}.'
    )
  return dataset._replace(
    y_train=dataset.y_train.astype(np.int32),
    y_test=dataset.y_test.astype(np.int32),
  )


def checked_clients(
  given: Sequence[np.ndarray], num_clients: int, num_examples: int
) -> list[np.ndarray]:
  """A client split of one's own; ValueError where it does not fit."""
  if len(given) != num_clients:
    raise ValueError(
      f'clients must be config.num_clients = {num_clients} arrays of indices,'
      f' got {len(given)}.'
    )
  parts = []
  for i, part in enumerate(given):
    part = np.asarray(part)
    if part.ndim != 1 or not np.issubdtype(part.dtype, np.integer):
      raise ValueError(
        f'clients[{i}] must be integers [n], got {part.dtype} {part.shape}.'
      )
    if not part.size or part.min() < 0 or part.max() >= num_examples:
      raise ValueError(
        f'clients[{i}] must hold indices in [0, {num_examples}), at least one,'
        f' got {part.size} of them.'
      )
    parts.append(part.astype(np.int32))
  return parts


def fingerprint(dataset: Dataset) -> str:
  """Eight hex digits that differ for another data set; of a checked one."""
  numbers = np.array([dataset.num_classes, *(dataset.value_range or ())])
  arrays = (dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test)
  return checksum((*arrays, numbers))


def checksum(arrays: Iterable[np.ndarray]) -> str:
  """Eight hex digits of the shapes, types and values of some arrays."""
  crc = 0
  for array in arrays:
    head = f'{array.dtype} {array.shape};'.encode()
    flat = np.ascontiguousarray(array).reshape(-1)
    crc = zlib_ng.crc32(flat.view(np.uint8).data, zlib_ng.crc32(head, crc))
  return f'{crc:08x}'


def _check_images(
  name: str, images: np.ndarray, value_range: tuple[float, float] | None
) -> None:
  """ValueError unless these are images `[N, H, W, C]` of a known scale."""
  if not isinstance(images, np.ndarray) or images.ndim != 4:
    got = getattr(images, 'shape', type(images).__name__)
    raise ValueError(f'{name} must be an array [N, H, W, C], got {got}.')
  if 0 in images.shape:
    raise ValueError(f'{name} must not be empty, got shape {images.shape}.')
  _, height, width, channels = images.shape
  if height in (1, 3) and channels == width and channels > 4:
    raise ValueError(
      f'{name} must be [N, H, W, C], got {images.shape}, which looks like'
      f' [N, C, H, W]: use np.moveaxis({name}, 1, 3).'
    )
  if images.dtype == np.uint8:
    if value_range is not None:
      raise ValueError(
        f'{name} is uint8, whose range is [0, 255]: leave value_range out, got'
        f' {value_range}.'
      )
    return
  if images.dtype != np.float32 or value_range is None:
    raise ValueError(
      f'{name} must be uint8, or float32 with Dataset(..., value_range=(low,'
      f' high)), got {images.dtype} with value_range = {value_range}.'
    )
  low, high = value_range
  # NaN fails both comparisons.
  if not (low < high and images.min() >= low and images.max() <= high):
    raise ValueError(
      f'{name} must lie in value_range = {value_range}, low below high, got'
      f' values from {images.min()} to {images.max()}.'
    )


def _check_labels(name: str, labels: np.ndarray, num_classes: int) -> None:
  """ValueError unless these are labels `[N]` in [0, num_classes)."""
  integers = isinstance(labels, np.ndarray) and np.issubdtype(
    labels.dtype, np.integer
  )
  if not integers or labels.ndim != 1:
    got = getattr(labels, 'dtype', type(labels).__name__)
    raise ValueError(
      f'{name} must be integers [N], got {got} {getattr(labels, "shape", "")}.'
    )
  low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
  if low < 0 or high >= num_classes:
    hint = ': subtract 1' if labels.min() == 1 and high == num_classes else ''
    raise ValueError(
      f'{name} must lie in [0, num_classes = {num_classes}), got'
      f' {labels.min()} to {high}{hint}.'
    )
