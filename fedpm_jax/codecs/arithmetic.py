"""Masks through a range coder, by what is known about the ones.

    frequency   one q for the message              2 B + stream
    per_tensor  one q for each of the L tensors    2 L B + stream
    per_level   one q for each level of side.q     2 B a level + stream
    prior       q_i = side.q for bit i             stream, bits sorted by q
                                                   where it has <= 256 levels

q is 65536 P(one), uint16 in [1, 65535].  `frequency` is the estimator of the
FedPM paper made real (Isik et al., "Sparse random networks for communication-
efficient federated learning", ICLR 2023: H2 of the frequency of ones);
`prior` uses what the paper's server knows anyway, the theta that the round
started from.  Where theta says something about a bit but is not its probability
(masks without chance, signs), `per_level` finds out what it says: bits of one
level, or of one upper byte where there are more than 256, have a frequency of
their own.  Transmitted frequencies are those of the mask itself, so the
decoder checks them against what it has decoded.
"""

import functools

import numpy as np

from fedpm_jax.codecs import base, rangecoder

_Q = np.dtype('<u2')
MAX_LEVELS = 256  # of `prior`; a part of the format


def _encode_frequencies(mask: np.ndarray, sizes: tuple[int, ...]) -> bytes:
  tensors = base.split(mask, sizes)
  q = _frequencies(tensors)
  writer = rangecoder.Writer()
  for tensor, q_tensor in zip(tensors, q, strict=True):
    writer.bits(tensor, q_tensor)
  return q.astype(_Q).tobytes() + writer.finish()


def _decode_frequencies(
  payload: bytes, sizes: tuple[int, ...], name: str
) -> np.ndarray:
  head = len(sizes) * _Q.itemsize
  if len(payload) < head:
    raise base.WireError(
      f'{name}: payload: got {len(payload)} B, expected at least {head}.'
    )
  q = np.frombuffer(payload, _Q, len(sizes)).astype(np.int64)
  if not q.all():  # the range coder must not see P(one) = 0
    raise base.WireError(f'{name}: frequency: got 0, expected [1, 65535].')
  reader = rangecoder.Reader(payload[head:])
  tensors = [
    reader.bits(size, q_tensor) for size, q_tensor in zip(sizes, q, strict=True)
  ]
  reader.finish()
  if not np.array_equal(_frequencies(tensors), q):
    raise base.WireError(f'{name}: frequency: is not that of the mask.')
  return np.concatenate(tensors)


def _frequencies(tensors: list[np.ndarray]) -> np.ndarray:
  ones = [np.count_nonzero(tensor) for tensor in tensors]
  return base.frequency_of_ones(ones, [tensor.size for tensor in tensors])


def _encode_prior(mask: np.ndarray, side: base.SideInformation) -> bytes:
  writer = rangecoder.Writer()
  grouped = _by_level(side.q.tobytes())
  if grouped is None:
    writer.bits(mask, side.q)
  else:
    order, levels, counts = grouped
    groups = base.split(mask[order], counts)
    for group, level in zip(groups, levels, strict=True):
      writer.bits(group, level)
  return writer.finish()


def _decode_prior(
  payload: bytes, count: int, side: base.SideInformation
) -> np.ndarray:
  reader = rangecoder.Reader(payload)
  grouped = _by_level(side.q.tobytes())
  if grouped is None:
    mask = reader.bits(count, side.q)
  else:
    order, levels, counts = grouped
    mask = np.empty(count, np.bool_)
    groups = zip(counts, levels, strict=True)
    mask[order] = np.concatenate([reader.bits(n, q) for n, q in groups])
  reader.finish()
  return mask


def _groups(q: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
  """Positions sorted by level, or upper byte, of q, and the groups' sizes."""
  coarse = (q >> 8).astype(np.uint16)
  order, _, counts = _by_level(q.tobytes()) or _by_level(coarse.tobytes())
  return order, counts


def _encode_per_level(mask: np.ndarray, side: base.SideInformation) -> bytes:
  order, counts = _groups(side.q)
  return _encode_frequencies(mask[order], counts)


def _decode_per_level(
  payload: bytes, count: int, side: base.SideInformation
) -> np.ndarray:
  order, counts = _groups(side.q)
  mask = np.empty(count, np.bool_)
  mask[order] = _decode_frequencies(payload, counts, 'per_level')
  return mask


@functools.lru_cache(maxsize=4)
def _by_level(
  q_bytes: bytes,
) -> tuple[np.ndarray, list[int], tuple[int, ...]] | None:
  """Positions sorted by q, the distinct q, and how often each occurs.

  After a reset of the prior theta has K + 1 levels only, and bits of one level
  are coded four times faster together than with a probability each.  All
  clients of a round share q, so that it is sorted once.  None where there are
  more than MAX_LEVELS: bits are then coded in place.
  """
  q = np.frombuffer(q_bytes, np.uint16)
  counts = np.bincount(q, minlength=base.THETA_SCALE)
  levels = np.flatnonzero(counts)
  if levels.size > MAX_LEVELS:
    return None
  order = np.argsort(q, kind='stable')  # a radix sort
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
