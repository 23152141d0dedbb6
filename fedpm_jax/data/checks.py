"""A data set is checked at the door, once, wherever it comes from.

What is wrong is said in one line, before anything is trained: what was got,
what was expected, what to do.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from absl import logging
from zlib_ng import zlib_ng

from fedpm_jax.data.sources import Dataset
from fedpm_jax.system import text

# Inputs that use less of their range look all alike to a network.
_LEAST_SHARE = 0.02
_PART = 2**24  # bytes that are summed at a time
_LARGEST = 1e6  # of rows that nobody scales
# How much wider one column of a table may be than another before the narrow one
# is as good as constant for a network whose weights are random.
_WIDEST = 1000
_NUMBERS = 10**7  # that are looked at for it, at most


def checked(dataset: Dataset) -> Dataset:
  """The data set with plain types and labels as int32, if it can be trained on.

  Images are uint8, or float32 with a stated `value_range`; both are scaled to
  [-1, 1] inside the network, from [0, 255] or from that range.  Tokens, int32,
  and rows of a table, float32, reach the module as they are.

  Raises:
    ValueError: a type, a shape, a value or a label that cannot be meant.
  """
  arrays = {
    name: np.asarray(array)  # One of JAX will do.
    for name, array in dataset._asdict().items()
    if name[:2] in ('x_', 'y_') and hasattr(array, '__array__')
  }
  if not isinstance(dataset.num_classes, int | np.integer):
    got = text.short(dataset.num_classes)
    raise ValueError(f'num_classes must be an integer, got {got}.')
  dataset = dataset._replace(num_classes=int(dataset.num_classes), **arrays)
  if dataset.value_range is not None:
    dataset = dataset._replace(value_range=_numbers(dataset.value_range))
  if dataset.num_classes < 2:
    raise ValueError(
      f'num_classes must be at least 2, got {dataset.num_classes}.'
    )
  for split in ('train', 'test'):
    inputs, labels = (getattr(dataset, f'{x}_{split}') for x in 'xy')
    _check_inputs(f'x_{split}', inputs, dataset.value_range)
    _check_labels(f'y_{split}', labels, dataset.num_classes)
    if len(inputs) != len(labels):
      raise ValueError(
        f'x_{split} and y_{split} must be equally long, got {len(inputs)} inputs'
        f' and {len(labels)} labels.'
      )
  train, test = dataset.x_train, dataset.x_test
  if (train.shape[1:], train.dtype) != (test.shape[1:], test.dtype):
    raise ValueError(
      'x_train and x_test must be alike, got inputs of'
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
  if not isinstance(given, Sequence | np.ndarray):
    raise ValueError(
      'clients must be a list of arrays of indices, one for each client, got'
      f' {type(given).__name__}.'
    )
  if len(given) != num_clients:
    raise ValueError(
      f'clients must be config.num_clients = {num_clients} arrays of indices,'
      f' got {len(given)}.'
    )
  parts = []
  for i, part in enumerate(given):
    try:
      part = np.asarray(part)
    except ValueError as error:
      raise ValueError(f'clients[{i}] must be integers [n]: {error}') from error
    if not part.size:
      raise ValueError(
        f'clients[{i}] must be integers [n], and it is empty: every client needs'
        ' an example.'
      )
    if part.ndim != 1 or not np.issubdtype(part.dtype, np.integer):
      raise ValueError(
        f'clients[{i}] must be integers [n], got {part.dtype} {part.shape}.'
      )
    if part.min() < 0 or part.max() >= num_examples:
      raise ValueError(
        f'clients[{i}] must hold indices in [0, {num_examples}), got'
        f' {part.min()} to {part.max()}.'
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
    crc = zlib_ng.crc32(head, crc)
    array = np.atleast_1d(array)
    # In parts, since a mapped file that lies in another order would be copied.
    size = max(1, _PART // max(1, array[:1].nbytes))
    for first in range(0, len(array), size):
      part = np.ascontiguousarray(array[first : first + size]).reshape(-1)
      crc = zlib_ng.crc32(part.view(np.uint8).data, crc)
  return f'{crc:08x}'


def _check_inputs(
  name: str, inputs: np.ndarray, value_range: tuple[float, float] | None
) -> None:
  """ValueError unless these can be meant as images, rows or tokens."""
  if not isinstance(inputs, np.ndarray) or inputs.ndim < 2:
    got = getattr(inputs, 'shape', type(inputs).__name__)
    raise ValueError(
      f'{name} must be an array: images [N, H, W, C], rows [N, F] or tokens'
      f' [N, L], got {got}.'
    )
  if 0 in inputs.shape:
    raise ValueError(f'{name} must not be empty, got shape {inputs.shape}.')
  if inputs.ndim == 4:
    _check_layout(name, inputs)
  if inputs.dtype == np.uint8:
    if value_range is not None:
      raise ValueError(
        f'{name} is uint8, whose range is [0, 255]: leave value_range out, got'
        f' {value_range}.'
      )
    _warn_if_flat(name, inputs, (0, 255))
  elif inputs.dtype == np.float32 and value_range is not None:
    _check_range(name, inputs, value_range)
  elif inputs.dtype == np.int32 and value_range is None and inputs.ndim != 4:
    if inputs.min() < 0:
      raise ValueError(
        f'{name} are tokens, which must be at least 0, got {inputs.min()}: pad'
        ' with a token of its own.'
      )
  elif inputs.dtype == np.float32 and inputs.ndim != 4:
    # Nobody has standardised such rows.
    # NaN fails both comparisons.  Nothing here copies a set that may be large.
    if not (inputs.min() >= -_LARGEST and inputs.max() <= _LARGEST):
      raise ValueError(
        f'{name} must be finite and within +-{_LARGEST:g}, got values from'
        f' {inputs.min()} to {inputs.max()}. Rows reach the model as they are:'
        ' standardise them, or give value_range=(low, high).'
      )
    _warn_if_uneven(name, inputs)
  else:
    hint = _hint(name, inputs)
    raise ValueError(
      f'{name} must be uint8, or float32 with Dataset(..., value_range=(low,'
      ' high)), or, without a range and not scaled, int32 tokens or float32 rows'
      f' [N, F]; got {inputs.dtype} {list(inputs.shape)} with value_range ='
      f' {value_range}{hint}.'
    )


def _hint(name: str, inputs: np.ndarray) -> str:
  """What to do about inputs of another type, where that can be told."""
  kind, is_image = inputs.dtype.kind, inputs.ndim == 4
  if kind == 'f' and is_image:
    return f': use {name}.astype(np.float32), and say their range'
  if kind == 'f' and inputs.dtype != np.float32:
    return f': use {name}.astype(np.float32)'
  if (kind in 'iu' and inputs.dtype != np.int32) or (kind == 'i' and is_image):
    dtype = np.uint8 if is_image else np.int32
    limits = np.iinfo(dtype)
    if limits.min <= inputs.min() and inputs.max() <= limits.max:
      return f': use {name}.astype(np.{dtype.__name__})'
  return ''


def _check_layout(name: str, images: np.ndarray) -> None:
  """ValueError, or a warning, where images seem to be `[N, C, H, W]`."""
  _, height, width, channels = images.shape
  if height in (1, 3) and channels == width and channels > 4:
    raise ValueError(
      f'{name} must be [N, H, W, C], got {images.shape}, which looks like'
      f' [N, C, H, W]: use np.moveaxis({name}, 1, 3).'
    )
  if height == 3 and channels > 4 and width > 4:
    logging.warning(
      '%s has the shape [N, H, W, C] = %s: images of 3 rows with %d channels. If'
      ' it is [N, C, H, W], use np.moveaxis(%s, 1, 3).',
      name,
      images.shape,
      channels,
      name,
    )


def _check_range(
  name: str, inputs: np.ndarray, value_range: tuple[float, float]
) -> None:
  """ValueError where inputs leave their range."""
  low, high = value_range
  # NaN fails both comparisons.
  if not (low < high and inputs.min() >= low and inputs.max() <= high):
    raise ValueError(
      f'{name} must lie in value_range = {value_range}, low below high, got'
      f' values from {inputs.min()} to {inputs.max()}.'
    )
  _warn_if_flat(name, inputs, value_range)


def _warn_if_flat(
  name: str, inputs: np.ndarray, value_range: tuple[float, float]
) -> None:
  """Warns of inputs that use next to nothing of their range.

  They were scaled to [0, 1] and are said to be [0, 255], most of the time.
  """
  low, high = value_range
  used = float(inputs.max()) - float(inputs.min())
  if used < _LEAST_SHARE * (high - low):
    logging.warning(
      '%s has values from %g to %g of [%g, %g], and its inputs will look all'
      ' alike. If they are scaled to [0, 1], make them float32 with'
      ' value_range=(0.0, 1.0).',
      name,
      inputs.min(),
      inputs.max(),
      low,
      high,
    )


def _warn_if_uneven(name: str, rows: np.ndarray) -> None:
  """Warns of a table in which one column drowns another."""
  if rows.ndim != 2:
    return
  some = rows[:: -(-rows.size // _NUMBERS)]
  spread = some.std(axis=0, dtype=np.float64)
  wide = int(np.argmax(spread))
  # A constant column says nothing, however it is scaled.
  narrow = int(np.argmin(np.where(spread > 0, spread, np.inf)))
  if spread[wide] > _WIDEST * spread[narrow] > 0:
    logging.warning(
      '%s: column %d has a standard deviation of %.3g, column %d one of %.3g. The'
      ' model cannot see the narrow one beside the wide one. Standardise the'
      ' columns, with the mean and the deviation of x_train.',
      name,
      wide,
      spread[wide],
      narrow,
      spread[narrow],
    )


def _numbers(value_range: Any) -> tuple[float, float]:
  """The two ends of a range; ValueError where it has others."""
  try:
    low, high = map(float, value_range)
  except (TypeError, ValueError) as error:
    raise ValueError(
      'value_range must be two numbers (low, high), got'
      f' {text.short(value_range)}.'
    ) from error
  return low, high


def _check_labels(name: str, labels: np.ndarray, num_classes: int) -> None:
  """ValueError unless these are labels `[N]` in [0, num_classes)."""
  integers = isinstance(labels, np.ndarray) and np.issubdtype(
    labels.dtype, np.integer
  )
  if not integers or labels.ndim != 1:
    got = getattr(labels, 'dtype', type(labels).__name__)
    shape = getattr(labels, 'shape', ())
    hint = ''
    if len(shape) == 2:
      how = 'reshape(-1)' if shape[1] == 1 else 'argmax(1), if it is one-hot'
      hint = f': use {name}.{how}'
    raise ValueError(
      f'{name} must be integers [N], got {got} {shape or ""}{hint}.'
    )
  low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
  if low < 0 or high >= num_classes:
    hint = ': subtract 1' if labels.min() == 1 and high == num_classes else ''
    raise ValueError(
      f'{name} must lie in [0, num_classes = {num_classes}), got'
      f' {labels.min()} to {high}{hint}.'
    )
