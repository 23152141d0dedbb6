"""The final model as one file: a seed and an entropy-coded mask, or weights.

`export` writes it, `load` gives back a callable model, in any process, from
this file alone: the frozen weights are regenerated from the seed.  A dense
method's weights, which do not follow from a seed, are written as they are.

FedPM's mask is one sample of Bernoulli(theta), m_i = [u_i < theta_i] with
dithers u that follow from the seed too, `keys.Purpose.FINAL`.  A reader who knows u_i but not theta_i
still knows something: a small u makes a one likely, a large one a zero, unless
theta is 0 or 1.  So the bits are coded in groups of like dithers, each with its
own frequency, which is exact, costs 64 bytes and saves about 5 % where theta is
undecided in a third of its entries.

    offset  bytes  field (integers little-endian)
         0      5  magic, b'FPMA' and the version of this format, 2
         5      4  length J of the description
         9      J  description, JSON: the network's specification, how the values
                   are grouped and coded, a fingerprint of the frozen weights
     9 + J      P  the values, a message of `fedpm_jax.wire`, with its checksums
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

from fedpm_jax import codecs, masks
from fedpm_jax.models import network as networks
from fedpm_jax.models.network import Network
from fedpm_jax.prng import dithers, keys
from fedpm_jax.protocol import wire
from fedpm_jax.system import files

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


class ArtifactError(ValueError):
  """The file is not a model of this format, damaged, or not reproducible."""


class Model(NamedTuple):
  """A loaded model.

  Attributes:
    spec: what determines the random network.
    layout: of its parameters.
    values: a mask of the frozen weights, bool `[d]`, or weights, float32 `[d]`.
    num_bytes: of the file.
    logits: jitted, uint8 images `[B, H, W, C]` -> float32 `[B, classes]`.
  """

  spec: networks.Spec
  layout: masks.Layout
  values: np.ndarray
  num_bytes: int
  logits: Callable[[Any], jax.Array]

  def __call__(self, images: Any) -> jax.Array:
    """Logits `[B, classes]` of uint8 images `[B, H, W, C]`.

    Raises:
      ValueError: the images have another shape or type.
    """
    images = np.asarray(images)
    shape = tuple(self.spec.image_shape)
    if images.dtype != np.uint8 or images.shape[1:] != shape:
      raise ValueError(
        f'Expected uint8 images [B, {", ".join(map(str, shape))}], got'
        f' {images.dtype} {list(images.shape)}.'
      )
    return self.logits(images)

  @property
  def mask(self) -> np.ndarray | None:
    """bool `[d]`, or None where the model is dense weights."""
    return self.values if self.values.dtype == np.bool_ else None

  @property
  def bpp(self) -> float:
    """Bits per parameter of the whole file."""
    return 8 * self.num_bytes / len(self.values)

  @property
  def ratio(self) -> float:
    """How many times smaller than the same network in float32."""
    return 4 * len(self.values) / self.num_bytes


def export(
  path: pathlib.Path, spec: networks.Spec, values: np.ndarray
) -> Model:
  """Writes the artifact, whole or not at all, and reads it back.

  Args:
    path: of the file.
    spec: of the network.
    values: a mask of its weights, bool `[d]`, or its weights, float32 `[d]`.

  Returns:
    The model as `load` sees it.

  Raises:
    ValueError: the values do not fit the network.
  """
  network = networks.build(spec)
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
  description = json.dumps(
    {
      'spec': spec._asdict(),
      'grouping': grouping,
      'codec': codec,
      'weights_sha256': fingerprint(spec),
    },
    separators=(',', ':'),
  ).encode()
  body = _HEAD.pack(_MAGIC, _VERSION, len(description)) + description + message
  files.write_bytes(path, body + _CRC.pack(zlib.crc32(body)))
  return load(path)


def load(path: pathlib.Path | str) -> Model:
  """Reads an artifact and checks all of it.

  Raises:
    FileNotFoundError: there is no such file.
    ArtifactError: it is damaged, of another format, or this machine
      regenerates other weights than the one that wrote it.
  """
  data = pathlib.Path(path).read_bytes()
  if len(data) < _HEAD.size + _CRC.size or data[:4] != _MAGIC:
    raise ArtifactError(f'{path} is not a fedpm_jax model.')
  if data[4] != _VERSION:
    raise ArtifactError(
      f'{path} has format {data[4]}, this program reads {_VERSION}.'
    )
  body, (checksum,) = data[: -_CRC.size], _CRC.unpack(data[-_CRC.size :])
  if zlib.crc32(body) != checksum:
    raise ArtifactError(f'{path} is damaged: its checksum does not match.')
  _, _, length = _HEAD.unpack_from(body)
  try:
    description = json.loads(body[_HEAD.size : _HEAD.size + length])
    fields = description['spec']
    fields['image_shape'] = tuple(int(n) for n in fields['image_shape'])
    spec = networks.Spec(**fields)
    network = networks.build(spec)
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
      body[_HEAD.size + length :],
      codecs.SideInformation(sizes=sizes),
      **_address(network, codec),
    )
    expected = description['weights_sha256']
  except (ValueError, KeyError, TypeError) as error:
    raise ArtifactError(f'{path} is not a valid model: {error}') from error
  if values.dtype == np.bool_ and fingerprint(spec) != expected:
    raise ArtifactError(
      f'{path}: this version of JAX regenerates other weights from the seed'
      ' than the one that trained the model.'
    )

  @functools.partial(jax.jit, compiler_options=network.compiler_options)
  def logits(images):
    params = jnp.asarray(values)
    if values.dtype == np.bool_:
      params = network.weights() * params
    return network.apply(masks.unravel(network.layout, params), images)

  return Model(spec, network.layout, values, len(data), logits)


def _by_tensor(spec, network) -> tuple[Any, tuple[int, ...]]:
  """The order of the layout, in groups that are its tensors."""
  del spec
  return slice(None), network.layout.sizes


def _by_dither(spec, network) -> tuple[Any, tuple[int, ...]]:
  """The positions by the upper bits of their dithers, and the group sizes."""
  u = dithers.bits16(_dither_key(spec), network.layout.num_parameters)
  group = np.asarray(u) // (masks.SCALE // _GROUPS)
  order = np.argsort(group, kind='stable')
  return order, tuple(np.bincount(group, minlength=_GROUPS).tolist())


_GROUPINGS = {'dither': _by_dither, 'tensor': _by_tensor}


def _dither_key(spec: networks.Spec) -> jax.Array:
  return keys.derive(spec.seed, keys.Purpose.FINAL)


def _address(network: Network, codec: str) -> dict[str, Any]:
  layout = network.layout
  return {
    'codec': codec,
    'kind': wire.Kind.UPLINK,
    'round_idx': 0,
    'client': wire.EVERYONE,
    'layout_hash': wire.layout_hash(layout.names, layout.shapes),
  }


@functools.lru_cache(maxsize=4)
def fingerprint(spec: networks.Spec) -> str:
  """16 hex digits of the SHA-256 of the regenerated weights."""
  network = networks.build(spec)
  regenerate = jax.jit(
    network.weights, compiler_options=network.compiler_options
  )
  weights = np.asarray(regenerate())
  return hashlib.sha256(weights.astype('<f4').tobytes()).hexdigest()[:16]
