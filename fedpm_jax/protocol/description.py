"""What a model file says about its network, checked before it is believed.

A model file may come from anywhere, so its description is read with suspicion.
Each field must have its type and lie in its range, and there must be no other
field.  Whether such a network can be built, and whether it has as many
parameters as the file has values for, is asked afterwards, in
`protocol.model_file`.
"""

import json
import math
import re
from typing import Any, NamedTuple

from fedpm_jax import masks
from fedpm_jax.models import inputs
from fedpm_jax.models.network import Spec
from fedpm_jax.system import reading
from fedpm_jax.system.text import short

# Of a description: JSON takes far more memory when it is read.
MAX_BYTES = 2**20
GROUPINGS = ('dither', 'tensor')
MASK_CODECS = ('bitpack', 'frequency', 'per_tensor')
WEIGHT_CODECS = ('raw',)

_MAX_IMAGE = 2**26  # numbers in an input: 256 MiB as float32
_MAX_RANK = 8  # of an input
_MAX_CLASSES = 2**24
_MAX_FLOAT = 3e38  # networks compute in float32
# Fields that files of before they existed do not have.
_DEFAULTS = {'value_range': None, 'unscaled': ''}
_SHAPE = {
  'spec': {
    'model': str,
    'image_shape': [int],
    'num_classes': int,
    'seed': int,
    'weight_kind': str,
    'weight_gain': float,
    'value_range': (type(None), [float]),
    'unscaled': str,
  },
  'grouping': str,
  'codec': str,
  'weights_sha256': str,
}


class Description(NamedTuple):
  """What is in a file besides the values.

  Attributes:
    spec: of the network.
    grouping: in which order the values are coded, one of `GROUPINGS`.
    codec: how they are coded, one of `MASK_CODECS` or `WEIGHT_CODECS`.
    fingerprint: 16 hex digits of the frozen weights.
  """

  spec: Spec
  grouping: str
  codec: str
  fingerprint: str


def to_json(description: Description) -> bytes:
  """The bytes that a file holds; `parse` reads them."""
  fields = description.spec._asdict()
  for name, default in _DEFAULTS.items():
    if fields[name] == default:
      del fields[name]
  content = {
    'spec': fields,
    'grouping': description.grouping,
    'codec': description.codec,
    'weights_sha256': description.fingerprint,
  }
  return json.dumps(content, separators=(',', ':')).encode()


def parse(text: bytes) -> Description:
  """The description in a file.

  Raises:
    ValueError: it is no JSON, or a field is missing, unknown or out of range.
  """
  content = reading.parse_json(text, {'spec': {}})
  content['spec'] = _DEFAULTS | content['spec']
  reading.check(content, _SHAPE)
  _check_names(content, _SHAPE)
  _check_names(content['spec'], _SHAPE['spec'])
  _check_ranges(content['spec'])
  grouping, codec = content['grouping'], content['codec']
  all_codecs = MASK_CODECS + WEIGHT_CODECS
  if grouping not in GROUPINGS or codec not in all_codecs:
    raise ValueError(
      f'grouping and codec must be of {GROUPINGS} and {all_codecs}, got'
      f' {short(grouping)} and {short(codec)}'
    )
  fingerprint = content['weights_sha256']
  if not re.fullmatch('[0-9a-f]{16}', fingerprint):
    raise ValueError(
      f'weights_sha256 must be 16 hex digits, got {short(fingerprint)}'
    )
  return Description(_spec(content['spec']), grouping, codec, fingerprint)


def _spec(fields: dict[str, Any]) -> Spec:
  """The specification of checked fields, whose numbers JSON may write as 2."""
  value_range = fields['value_range']
  if value_range is not None:
    low, high = value_range
    value_range = float(low), float(high)
  return Spec(
    model=fields['model'],
    image_shape=tuple(fields['image_shape']),
    num_classes=fields['num_classes'],
    seed=fields['seed'],
    weight_kind=fields['weight_kind'],
    weight_gain=float(fields['weight_gain']),
    value_range=value_range,
    unscaled=fields['unscaled'],
  )


def _check_names(content: dict[str, Any], shape: dict[str, Any]) -> None:
  """ValueError where there are fields of other names."""
  unknown = sorted(set(content) - set(shape))
  if unknown:
    raise ValueError(
      f'it has the unknown fields {short(unknown)}, expected {list(shape)}'
    )


def _check_ranges(fields: dict[str, Any]) -> None:
  """ValueError naming the first field of the specification out of its range."""
  image = fields['image_shape']
  ends = [0, 255] if fields['value_range'] is None else fields['value_range']
  rows = [
    (
      'image_shape',
      1 <= len(image) <= _MAX_RANK
      and min(image) > 0
      and math.prod(image) <= _MAX_IMAGE,
      f'one to {_MAX_RANK} positive integers, of a product of at most'
      f' {_MAX_IMAGE}',
    ),
    (
      'num_classes',
      2 <= fields['num_classes'] <= _MAX_CLASSES,
      f'in [2, {_MAX_CLASSES}]',
    ),
    ('seed', 0 <= fields['seed'] < 2**32, 'in [0, 2^32)'),
    (
      'weight_kind',
      fields['weight_kind'] in masks.WEIGHTS,
      f'one of {sorted(masks.WEIGHTS)}',
    ),
    (
      'weight_gain',
      0 < fields['weight_gain'] <= _MAX_FLOAT,
      f'positive and at most {_MAX_FLOAT}',
    ),
    (
      'value_range',
      len(ends) == 2 and -_MAX_FLOAT <= ends[0] < ends[1] <= _MAX_FLOAT,
      f'[low, high], both within +-{_MAX_FLOAT}',
    ),
    (
      'unscaled',
      fields['unscaled'] in ('', *inputs.UNSCALED)
      and not (fields['unscaled'] and fields['value_range']),
      f'one of {inputs.UNSCALED}, without a value_range',
    ),
  ]
  for name, fits, expected in rows:
    if not fits:
      raise ValueError(
        f'spec.{name} must be {expected}, got {short(fields[name])}'
      )
