"""Masks through a range coder, by what is known about the ones.

    frequency   one q for the message              2 B + stream
    per_tensor  one q for each of the L tensors    2 L B + stream
    per_level   one q for each level of side.q     2 B a level + stream
    prior       q_i = side.q for bit i             stream, bits sorted by q
                                                   where it has <= 256 levels

q is 65536 P(one), uint16 in [1, 65535].  A level is one of the distinct values
of side.q.

The FedPM paper estimates its rate as H2 of the frequency of ones (Isik et al.,
"Sparse random networks for communication-efficient federated learning", ICLR
2023); `frequency` makes that estimator real.  `prior` uses what the paper's
server knows anyway, the theta that the round started from.  `per_level` serves
masks without chance and signs: theta says something about such a bit, but is
not its probability.  So the bits of each level have a frequency of their own.
Where there are more than 256 levels, the upper bytes of side.q are the levels.

Frequencies in a message are those of the mask itself, so the decoder checks
them against what it has decoded.
"""

import functools

import numpy as np

from fedpm_jax.codecs import base, rangecoder

_Q = np.dtype('<u2')
# `prior` sorts the bits by level where there are at most so many levels.  The
# decoder decides the same way, so this is a part of the format.
MAX_LEVELS = 256


def _encode_frequencies(mask: np.ndarray, sizes: tuple[int, ...]) -> bytes:
  """All frequencies, then the bits `[d]`, in parts of these sizes."""
  tensors = base.split(mask, sizes)
  q = _frequencies(tensors)
  writer = rangecoder.Writer()
  for tensor, q_tensor in zip(tensors, q, strict=True):
    writer.bits(tensor, q_tensor)
  return q.astype(_Q).tobytes() + writer.finish()


def _decode_frequencies(
  payload: base.Payload, sizes: tuple[int, ...], name: str
) -> np.ndarray:
  """The inverse of `_encode_frequencies`; `name` of the codec, for messages."""
  head = len(sizes) * _Q.itemsize
  if len(payload) < head:
    raise base.WireError(
      f'{name}: payload: got {len(payload)} B, expected at least {head}.'
    )
  q = np.frombuffer(payload, _Q, len(sizes)).astype(np.int64)
  # The range coder must not see P(one) = 0.
  if not q.all():
    raise base.WireError(f'{name}: frequency: got 0, expected [1, 65535].')
  reader = rangecoder.Reader(payload[head:])
  tensors = [
    reader.bits(size, q_tensor) for size, q_tensor in zip(sizes, q, strict=True)
  ]
  reader.finish()
  # Damaged bytes decode to another mask, whose frequencies are seldom these.
  if not np.array_equal(_frequencies(tensors), q):
    raise base.WireError(f'{name}: frequency: is not that of the mask.')
  return np.concatenate(tensors)


def _frequencies(tensors: list[np.ndarray]) -> np.ndarray:
  """q of each tensor, int64 `[L]`."""
  ones = [np.count_nonzero(tensor) for tensor in tensors]
  return base.frequency_of_ones(ones, [tensor.size for tensor in tensors])


def _encode_prior(mask: np.ndarray, side: base.SideInformation) -> bytes:
  q = base.needed(side.q)
  writer = rangecoder.Writer()
  grouped = _by_level(q.tobytes())
  # With many levels each bit has its own q; with few, the bits of one level are
  # coded together, which is faster.
  if grouped is None:
    writer.bits(mask, q)
  else:
    order, levels, counts = grouped
    groups = base.split(mask[order], counts)
    for group, level in zip(groups, levels, strict=True):
      writer.bits(group, level)
  return writer.finish()


def _decode_prior(
  payload: base.Payload, count: int, side: base.SideInformation
) -> np.ndarray:
  q = base.needed(side.q)
  reader = rangecoder.Reader(payload)
  grouped = _by_level(q.tobytes())
  if grouped is None:
    mask = reader.bits(count, q)
  else:
    order, levels, counts = grouped
    mask = np.empty(count, np.bool_)
    groups = zip(counts, levels, strict=True)
    mask[order] = np.concatenate([reader.bits(n, level) for n, level in groups])
  reader.finish()
  return mask


def _groups(q: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
  """Positions sorted by level, or upper byte, of q, and the groups' sizes."""
  grouped = _by_level(q.tobytes())
  if grouped is None:
    coarse = (q >> 8).astype(np.uint16)
    grouped = _by_level(coarse.tobytes())
    assert grouped is not None  # an upper byte has 256 values at most
  order, _, counts = grouped
  return order, counts


def _encode_per_level(mask: np.ndarray, side: base.SideInformation) -> bytes:
  order, counts = _groups(base.needed(side.q))
  return _encode_frequencies(mask[order], counts)


def _decode_per_level(
  payload: base.Payload, count: int, side: base.SideInformation
) -> np.ndarray:
  order, counts = _groups(base.needed(side.q))
  mask = np.empty(count, np.bool_)
  mask[order] = _decode_frequencies(payload, counts, 'per_level')
  return mask


@functools.lru_cache(maxsize=2)  # one round's theta, and the one before it
def _by_level(
  q_bytes: bytes,
) -> tuple[np.ndarray, list[int], tuple[int, ...]] | None:
  """Positions sorted by q, the levels of q, and how often each occurs.

  After a reset of the prior theta has only K + 1 levels, and the bits of one
  level are coded four times faster together than with a probability each.  All
  clients of a round share q, so the cache lets it be sorted once.

  Args:
    q_bytes: uint16 `[d]` as bytes, because the cache needs a key that hashes.

  Returns:
    None where there are more than MAX_LEVELS levels; the bits are then coded in
    place.
  """
  q = np.frombuffer(q_bytes, np.uint16)
  counts = np.bincount(q, minlength=base.THETA_SCALE)
  levels = np.flatnonzero(counts)
  if levels.size > MAX_LEVELS:
    return None
  # Both ends need the same order, so the sort is stable; it is a radix sort.
  order = np.argsort(q, kind='stable').astype(np.int32)
  return order, levels.tolist(), tuple(counts[levels].tolist())


FREQUENCY = base.checked(
  name='frequency',
  number=3,
  symbols='mask',
  encode=lambda mask, side: _encode_frequencies(mask, (mask.size,)),
  decode=lambda payload, count, side: _decode_frequencies(
    payload, (count,), 'frequency'
  ),
)

PER_TENSOR = base.checked(
  name='per_tensor',
  number=4,
  symbols='mask',
  encode=lambda mask, side: _encode_frequencies(mask, side.sizes),
  decode=lambda payload, count, side: _decode_frequencies(
    payload, side.sizes, 'per_tensor'
  ),
)

PRIOR = base.checked(
  name='prior',
  number=5,
  symbols='mask',
  encode=_encode_prior,
  decode=_decode_prior,
  needs=('q',),
  theta_is_probability=True,
)

PER_LEVEL = base.checked(
  name='per_level',
  number=12,
  symbols='mask',
  encode=_encode_per_level,
  decode=_decode_per_level,
  needs=('q',),
)
