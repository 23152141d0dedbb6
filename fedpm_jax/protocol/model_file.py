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

A file may come from anywhere.  So what is cheap to check is checked first: the
checksum, each field of the description, the network's layout, the number of its
parameters, and the header of the message.  Dithers and weights are generated
only then.  A few bytes can stand for a long mask of zeros, and memory and time
follow the mask, so a file of P bytes may describe at most 2^24 + 1024 P
parameters (see `most_parameters`).
"""

import functools
import hashlib
import os
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
from fedpm_jax.models import inputs, parameters
from fedpm_jax.models import network as networks
from fedpm_jax.models.network import Network
from fedpm_jax.prng import dithers, keys
from fedpm_jax.protocol import description as descriptions
from fedpm_jax.protocol import wire
from fedpm_jax.protocol.description import Description
from fedpm_jax.system import files, reading, text, xla

_HEAD = struct.Struct('<4sBI')
_CRC = struct.Struct('<I')
_MAGIC, _VERSION = b'FPMA', 2
_MAX_PARAMETERS = 2**31
_MAX_BYTES = 4 * _MAX_PARAMETERS + 2 * descriptions.MAX_BYTES
# How values may be coded, by their type: masks, and dense weights.
_CODECS = {
  np.dtype(np.bool_): descriptions.MASK_CODECS,
  np.dtype(np.float32): descriptions.WEIGHT_CODECS,
}
_GROUPS = 32  # of like dithers
_MOST = 400  # characters of a name or a reason in a message
_AGAIN = 'Copy it once more from where it was made.'


class ModelFileError(reading.FileError):
  """The file is not a model of this format, damaged, or not reproducible."""


class Model(NamedTuple):
  """A model, as a file holds it.

  Attributes:
    spec: what determines the random network.
    layout: of its parameters.
    values: a mask of the frozen weights, bool `[d]`, or weights, float32 `[d]`.
    data: the whole file.
    logits: jitted, inputs `[B, ...]` -> float32 `[B, classes]`.
  """

  spec: networks.Spec
  layout: masks.Layout
  values: np.ndarray
  data: bytes
  logits: Callable[[Any], jax.Array]

  def __call__(self, given: Any) -> jax.Array:
    """Logits `[B, classes]` of inputs `[B, ...]`, scaled as in training.

    Raises:
      ValueError: they have another shape or type than those of training, or are
        negative tokens.
    """
    given = np.asarray(given)
    shape = tuple(self.spec.image_shape)
    dtype = inputs.dtype_of(self.spec.value_range, self.spec.unscaled)
    if given.dtype != dtype or given.shape[1:] != shape:
      raise ValueError(
        f'Expected {dtype} inputs [B, {", ".join(map(str, shape))}], got'
        f' {given.dtype} {list(given.shape)}.'
      )
    if dtype == 'int32' and given.min(initial=0) < 0:
      raise ValueError(f'Tokens must be at least 0, got {given.min()}.')
    return self.logits(given)

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
    ValueError: the values do not fit the network, or are too many.
  """
  network = networks.build(spec, module=module)
  size = network.layout.num_parameters
  if values.dtype not in _CODECS or values.shape != (size,):
    raise ValueError(
      f'Expected a bool mask or float32 weights [{size}], got {values.dtype}'
      f' {list(values.shape)}.'
    )
  if size > _MAX_PARAMETERS:
    raise ValueError(
      f'A model file has at most {_MAX_PARAMETERS} parameters, got {size}.'
    )
  # The smallest of a few: masks that were not sampled with dithers, or whose
  # density differs from tensor to tensor, have other regularities.  Weights have
  # none, and stay in the order of the tensors, which needs no dithers to load.
  is_mask = values.dtype == np.bool_
  candidates = []
  for grouping in descriptions.GROUPINGS if is_mask else ('tensor',):
    order, sizes = _GROUPINGS[grouping](spec, network)
    side = codecs.SideInformation(sizes=sizes)
    for codec in _CODECS[values.dtype]:
      message = wire.encode(values[order], side, **_address(network, codec))
      # A bit or a float for each parameter is always long enough.
      if size <= most_parameters(len(message)):
        candidates.append((len(message), grouping, codec, message))
  _, grouping, codec, message = min(candidates)
  described = descriptions.to_json(
    Description(spec, grouping, codec, fingerprint(spec, network))
  )
  body = _HEAD.pack(_MAGIC, _VERSION, len(described)) + described + message
  return _decode(body + _CRC.pack(zlib.crc32(body)), 'the new model', module)


def load(path: pathlib.Path | str, model: nn.Module | None = None) -> Model:
  """Reads a model file and checks all of it.

  Args:
    path: of the file.
    model: the Flax module, where the model was trained with one's own: a file
      is data and names no code.

  Raises:
    FileNotFoundError: there is no such file.
    ModelFileError: it cannot be read, is damaged or of another format, or this
      machine regenerates other weights than the one that wrote it.
  """
  try:
    data = _read(pathlib.Path(path))
  except FileNotFoundError:
    raise
  except (OSError, ValueError) as error:  # ValueError: the path holds a zero
    raise ModelFileError(path, reading.reason(error)) from error
  return _decode(data, path, model)


def most_parameters(num_bytes: int) -> int:
  """How many parameters a file may have whose values take `num_bytes`.

  Up to 2^24 any mask may be as short as its code makes it.  Of a larger network
  the values take a thousandth of a byte each, as they do where one bit in 1,500
  differs from all others.
  """
  return min(2**24 + 2**10 * num_bytes, _MAX_PARAMETERS)


def _read(path: pathlib.Path) -> bytes:
  """The file's bytes, of which only the first are read where they are wrong."""
  with open(path, 'rb') as file:
    head = file.read(_HEAD.size)
    if head[:4] != _MAGIC or os.fstat(file.fileno()).st_size > _MAX_BYTES:
      return head
    return head + file.read()


def _decode(
  data: bytes, path: pathlib.Path | str, module: nn.Module | None
) -> Model:
  """The model of a file's bytes; `path` names it in errors."""
  if len(data) < _HEAD.size + _CRC.size or data[:4] != _MAGIC:
    raise ModelFileError(path, 'it is not a fedpm_jax model')
  _, version, length = _HEAD.unpack_from(data)
  if version != _VERSION:
    raise ModelFileError(
      path, f'it has format {version}, this program reads {_VERSION}'
    )
  body = memoryview(data)[: -_CRC.size]
  if _CRC.pack(zlib.crc32(body)) != data[-_CRC.size :]:
    problem = 'it is damaged: its checksum does not match'
    raise ModelFileError(path, problem, _AGAIN)
  start = _HEAD.size + length
  try:
    if length > descriptions.MAX_BYTES or start > len(body):
      raise ValueError(f'its description cannot have {length} bytes')
    description = descriptions.parse(bytes(body[_HEAD.size : start]))
    spec = description.spec
    network = _network(spec, module, most_parameters(len(body) - start))
    values = _values(body[start:], description, network)
  except ValueError as error:
    reason = text.one_line(error)
    raise ModelFileError(path, f'it is not a valid model: {reason}') from error
  is_mask = values.dtype == np.bool_
  # Weights that are in the file need not be regenerated.
  is_regenerated = is_mask or network.frozen
  if is_regenerated and fingerprint(spec, network) != description.fingerprint:
    others = ' or the module has other initial values' if network.frozen else ''
    raise ModelFileError(
      path,
      'this version of JAX regenerates other weights from the seed than the one'
      f' that trained the model{others}',
      'Load it with the version that it was made with.',
    )

  @functools.partial(jax.jit, compiler_options=network.compiler_options)
  def logits(given):
    params = jnp.asarray(values)
    if is_mask:
      params = network.weights() * params
    return network.apply(masks.unravel(network.layout, params), given)

  return Model(spec, network.layout, values, data, logits)


def _network(
  spec: networks.Spec, module: nn.Module | None, most: int
) -> Network:
  """The network of a description, if it can be built here.

  Args:
    spec: of the network.
    module: see `load`.
    most: parameters that are not of layers, which are made here.

  Raises:
    ValueError: it cannot, for whatever reason.
  """
  name = text.short(spec.model, _MOST)
  if module is None and spec.model not in models.MODELS:
    raise ValueError(
      f'it was trained with {name}, a module that this package does not have:'
      ' load(path, model=...) takes it'
    )
  try:
    given = None if module is None else f'own: {networks.described(module)}'
    if given not in (None, spec.model):
      raise ValueError(
        f'it was trained with {name}, got {text.short(given, _MOST)}'
      )
    most = min(most, parameters.MOST_OTHERS)
    return networks.build(spec, module=module, most_others=most)
  except ValueError:
    raise
  # A module of one's own may raise anything, and with it Flax and JAX.
  except Exception as error:
    reason = text.short(f'{type(error).__name__}: {error}', _MOST)
    raise ValueError(f'its network cannot be built: {reason}') from error


def _values(
  message: memoryview, description: Description, network: Network
) -> np.ndarray:
  """The mask or the weights, bool or float32 `[d]`."""
  size, codec = network.layout.num_parameters, description.codec
  most = most_parameters(len(message))
  if size > most:
    raise ValueError(
      f'its network has {size} parameters, expected at most {most} in a file of'
      ' this length'
    )
  address = _address(network, codec)
  wire.check(message, size, **address)
  order, sizes = _GROUPINGS[description.grouping](description.spec, network)
  (dtype,) = (dtype for dtype, row in _CODECS.items() if codec in row)
  values = np.empty(size, dtype)
  values[order] = wire.decode(
    message, codecs.SideInformation(sizes=sizes), **address
  )
  return values


def _by_tensor(spec, network) -> tuple[Any, tuple[int, ...]]:
  """The order of the layout, in groups that are its tensors."""
  del spec
  return slice(None), network.layout.sizes


def _by_dither(spec, network) -> tuple[Any, tuple[int, ...]]:
  """The positions by the upper bits of their dithers, and the group sizes."""
  u = _dithers(final_key(spec.seed), network.layout.num_parameters)
  # The numbers of the groups fit in a byte, which is sorted in half the time.
  group = (np.asarray(u) // (masks.SCALE // _GROUPS)).astype(np.uint8)
  order = np.argsort(group, kind='stable')
  return order, tuple(np.bincount(group, minlength=_GROUPS).tolist())


# As one program: step by step, each of its many arrays would lie in memory.
_dithers = jax.jit(dithers.bits16, static_argnums=1)
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


def fingerprint(spec: networks.Spec, network: Network) -> str:
  """16 hex digits of the SHA-256 of all that a machine must regenerate.

  These are the frozen weights and, if there are any, the parameters that are
  not masked.
  """
  return _fingerprint(
    spec.seed,
    network.layout,
    spec.weight_kind,
    spec.weight_gain,
    parameters.digest(network.frozen),
  )


@functools.lru_cache(maxsize=4)
def _fingerprint(
  seed: int, layout: masks.Layout, kind: str, gain: float, frozen: str
) -> str:
  key = keys.words(seed, keys.Purpose.WEIGHTS)
  regenerate = jax.jit(
    lambda: masks.weights(key, layout, kind=kind, gain=gain),
    compiler_options=xla.compiler_options(),
  )
  weights = np.asarray(regenerate())
  little = weights.astype('<f4', copy=False)
  of_all = hashlib.sha256(little.data)
  of_all.update(frozen.encode())
  return of_all.hexdigest()[:16]
