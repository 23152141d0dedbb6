"""The final model as one file: a seed and an entropy-coded mask, or weights.

`make` encodes it, `load` gives back a callable model, in any process: the
frozen weights are regenerated from the seed.  A file holds no code, so that a
model of one's own Flax module needs this module too.  A dense method's weights,
which do not follow from a seed, are written as they are.

The algorithm has drawn FedPM's mask, one sample of Bernoulli(theta): m_i = [u_i
< theta_i] with dithers u that follow from the seed too, `keys.Purpose.FINAL`.
A reader who knows u_i but not theta_i still knows something: a small u makes a
one likely, a large one a zero, unless theta is 0 or 1.  So the bits are coded
in groups of like dithers, each with its own frequency, which is exact, costs 64
bytes and saves about 5 % where theta is undecided in a third of its entries.

    offset  bytes  field (integers little-endian)
         0      5  magic, b'FPMA' and the version of this format, 2
         5      4  length J of the description
         9      J  description, JSON: the network's specification, how the values
                   are grouped and coded, a fingerprint of the frozen weights
     9 + J      P  the values, a message of `protocol.wire`, with its checksums
 9 + J + P      4  CRC-32 of all bytes before it
"""

import functools
import hashlib
import json
import pathlib
import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from fedpm_jax import codecs, masks, models
from fedpm_jax.models import network as networks
from fedpm_jax.models.network import Network
from fedpm_jax.prng import dithers, keys
from fedpm_jax.protocol import wire
from fedpm_jax.system import files, xla

_HEAD = struct.Struct('<4sBI')
_CRC = struct.Struct('<I')
_MAGIC, _VERSION = b'FPMA', 2
_MAX_PARAMETERS = 2**31  # refuse a description that asks for more
# How values may be coded, by their type: masks, and dense weights.
_CODECS = {
  np.dtype(np.bool_): ('bitpack', 'frequency', 'per_tensor'),
  np.dtype(np.float32): ('raw',),
}
_GROUPS = 32  # of like dithers


class ModelFileError(ValueError):
  """The file is not a model of this format, damaged, or not reproducible."""


class Model(NamedTuple):
  """A model, as a file holds it.

  Attributes:
    spec: what determines the random network.
    layout: of its parameters.
    values: a mask of the frozen weights, bool `[d]`, or weights, float32 `[d]`.
    data: the whole file.
    logits: jitted, images `[B, H, W, C]` -> float32 `[B, classes]`.
  """

  spec: networks.Spec
  layout: masks.Layout
  values: np.ndarray
  data: bytes
  logits: Callable[[Any], jax.Array]

  def __call__(self, images: Any) -> jax.Array:
    """Logits `[B, classes]` of images `[B, H, W, C]`, scaled as in training.

    Raises:
      ValueError: the images have another shape or type than those of training.
    """
    images = np.asarray(images)
    shape = tuple(self.spec.image_shape)
    dtype = np.uint8 if self.spec.value_range is None else np.float32
    if images.dtype != dtype or images.shape[1:] != shape:
      raise ValueError(
        f'Expected {np.dtype(dtype)} images [B, {", ".join(map(str, shape))}],'
        f' got {images.dtype} {list(images.shape)}.'
      )
    return self.logits(images)

  def __repr__(self) -> str:
    kind = 'weights' if self.mask is None else 'mask'
    return (
      f'Model({self.spec.model}, {kind} of {len(self.values):,} parameters,'
      f' {self.num_bytes:,} bytes)'
    )

  def save(self, path: pathlib.Path | str) -> None:
    """Writes the file, whole or not at all; `load` reads it."""
    files.write_bytes(pathlib.Path(path), self.data)

  @property
  def mask(self) -> np.ndarray | None:
    """bool `[d]`, or None where the model is dense weights."""
    return self.values if self.values.dtype == np.bool_ else None

  @property
  def num_bytes(self) -> int:
    """Of the file."""
    return len(self.data)

  @property
  def bpp(self) -> float:
    """Bits per parameter of the whole file."""
    return 8 * self.num_bytes / len(self.values)

  @property
  def ratio(self) -> float:
    """How many times smaller than the same network in float32."""
    return 4 * len(self.values) / self.num_bytes


def make(
  spec: networks.Spec, values: np.ndarray, module: nn.Module | None = None
) -> Model:
  """Encodes a model, and decodes it again, so that it is what `load` sees.

  Args:
    spec: of the network.
    values: a mask of its weights, bool `[d]`, or its weights, float32 `[d]`.
    module: see `models.network.build`.

  Raises:
    ValueError: the values do not fit the network.
  """
  network = networks.build(spec, module=module)
  size = network.layout.num_parameters
  if values.dtype not in _CODECS or values.shape != (size,):
    raise ValueError(
      f'Expected a bool mask or float32 weights [{size}], got {values.dtype}'
      f' {list(values.shape)}.'
    )
  # The smallest of a few: masks that were not sampled with dithers, or whose
  # density differs from tensor to tensor, have other regularities.
  candidates = []
  for grouping in _GROUPINGS:
    order, sizes = _GROUPINGS[grouping](spec, network)
    side = codecs.SideInformation(sizes=sizes)
    for codec in _CODECS[values.dtype]:
      message = wire.encode(values[order], side, **_address(network, codec))
      candidates.append((len(message), grouping, codec, message))
  _, grouping, codec, message = min(candidates)
  fields = spec._asdict()
  if spec.value_range is None:  # as in files of before there were ranges
    del fields['value_range']
  description = json.dumps(
    {
      'spec': fields,
      'grouping': grouping,
      'codec': codec,
      'weights_sha256': fingerprint(spec, network.layout),
    },
    separators=(',', ':'),
  ).encode()
  body = _HEAD.pack(_MAGIC, _VERSION, len(description)) + description + message
  return _decode(body + _CRC.pack(zlib.crc32(body)), 'the new model', module)


def load(path: pathlib.Path | str, model: nn.Module | None = None) -> Model:
  """Reads a model file and checks all of it.

  Args:
    path: of the file.
    model: the Flax module, where the model was trained with one's own: a file
      is data and names no code.

  Raises:
    FileNotFoundError: there is no such file.
    ModelFileError: it is damaged, of another format, or this machine
      regenerates other weights than the one that wrote it.
  """
  return _decode(pathlib.Path(path).read_bytes(), str(path), model)


def _decode(data: bytes, path: str, module: nn.Module | None) -> Model:
  """The model of a file's bytes; `path` names it in errors."""
  if len(data) < _HEAD.size + _CRC.size or data[:4] != _MAGIC:
    raise ModelFileError(f'{path} is not a fedpm_jax model.')
  if data[4] != _VERSION:
    raise ModelFileError(
      f'{path} has format {data[4]}, this program reads {_VERSION}.'
    )
  body, (checksum,) = data[: -_CRC.size], _CRC.unpack(data[-_CRC.size :])
  if zlib.crc32(body) != checksum:
    raise ModelFileError(f'{path} is damaged: its checksum does not match.')
  _, _, length = _HEAD.unpack_from(body)
  try:
    description = json.loads(body[_HEAD.size : _HEAD.size + length])
    spec = _spec(description['spec'], module)
    network = networks.build(spec, module=module)
    values = _values(body[_HEAD.size + length :], description, spec, network)
    expected = description['weights_sha256']
  except (ValueError, KeyError, TypeError) as error:
    raise ModelFileError(f'{path} is not a valid model: {error}') from error
  if values.dtype == np.bool_ and fingerprint(spec, network.layout) != expected:
    raise ModelFileError(
      f'{path}: this version of JAX regenerates other weights from the seed'
      ' than the one that trained the model.'
    )

  @functools.partial(jax.jit, compiler_options=network.compiler_options)
  def logits(images):
    params = jnp.asarray(values)
    if values.dtype == np.bool_:
      params = network.weights() * params
    return network.apply(masks.unravel(network.layout, params), images)

  return Model(spec, network.layout, values, data, logits)


def _spec(fields: dict[str, Any], module: nn.Module | None) -> networks.Spec:
  """The specification in a description, if it can be built here."""
  fields['image_shape'] = tuple(int(n) for n in fields['image_shape'])
  if fields.get('value_range') is not None:
    low, high = fields['value_range']
    fields['value_range'] = float(low), float(high)
  spec = networks.Spec(**fields)
  if module is None and spec.model not in models.MODELS:
    raise ValueError(
      f'it was trained with {spec.model!r}, a module that this package does not'
      ' have: load(path, model=...) takes it'
    )
  if module is not None:
    given = f'own: {networks.described(module)}'
    if given != spec.model:
      raise ValueError(f'it was trained with {spec.model!r}, got {given!r}')
  return spec


def _values(
  message: bytes,
  description: dict[str, Any],
  spec: networks.Spec,
  network: Network,
) -> np.ndarray:
  """The mask or the weights, bool or float32 `[d]`."""
  if network.layout.num_parameters > _MAX_PARAMETERS:
    raise ValueError('too many parameters')
  grouping, codec = description['grouping'], description['codec']
  dtype = {c: dtype for dtype, row in _CODECS.items() for c in row}
  if grouping not in _GROUPINGS or codec not in dtype:
    raise ValueError(
      f'grouping and codec must be of {sorted(_GROUPINGS)} and'
      f' {sorted(dtype)}, got {grouping!r} and {codec!r}'
    )
  order, sizes = _GROUPINGS[grouping](spec, network)
  values = np.empty(sum(sizes), dtype[codec])
  values[order] = wire.decode(
    message, codecs.SideInformation(sizes=sizes), **_address(network, codec)
  )
  return values


def _by_tensor(spec, network) -> tuple[Any, tuple[int, ...]]:
  """The order of the layout, in groups that are its tensors."""
  del spec
  return slice(None), network.layout.sizes


def _by_dither(spec, network) -> tuple[Any, tuple[int, ...]]:
  """The positions by the upper bits of their dithers, and the group sizes."""
  u = dithers.bits16(final_key(spec.seed), network.layout.num_parameters)
  group = np.asarray(u) // (masks.SCALE // _GROUPS)
  order = np.argsort(group, kind='stable')
  return order, tuple(np.bincount(group, minlength=_GROUPS).tolist())


_GROUPINGS = {'dither': _by_dither, 'tensor': _by_tensor}


def final_key(seed: int) -> jax.Array:
  """The key that the mask of a model file is drawn with."""
  return keys.derive(seed, keys.Purpose.FINAL)


def _address(network: Network, codec: str) -> dict[str, Any]:
  layout = network.layout
  return {
    'codec': codec,
    'kind': wire.Kind.UPLINK,
    'round_idx': 0,
    'client': wire.EVERYONE,
    'layout_hash': wire.layout_hash(layout.names, layout.shapes),
  }


def fingerprint(spec: networks.Spec, layout: masks.Layout) -> str:
  """16 hex digits of the SHA-256 of the regenerated weights."""
  return _fingerprint(spec.seed, layout, spec.weight_kind, spec.weight_gain)


@functools.lru_cache(maxsize=4)
def _fingerprint(
  seed: int, layout: masks.Layout, kind: str, gain: float
) -> str:
  key = keys.words(seed, keys.Purpose.WEIGHTS)
  regenerate = jax.jit(
    lambda: masks.weights(key, layout, kind=kind, gain=gain),
    compiler_options=xla.compiler_options(),
  )
  weights = np.asarray(regenerate())
  return hashlib.sha256(weights.astype('<f4').tobytes()).hexdigest()[:16]
