"""Theta on the downlink: entropy-coded levels, at most 16 bpp and a few bytes.

Where the prior is reset every round, theta is a count out of K, so it has K + 1
distinct levels; where it is reset every R rounds, it has K R + 1.  In the first
round, when the scores are normal, it can have any value.  One scheme covers all
of it:

    q = high * 256^low_bytes + low,    low_bytes in {0, 1, 2}

The low bytes go as they are.  `high` is coded with exact counts, which the
message carries: those of the whole vector or those of each tensor.  The encoder
takes the cheapest of five plans.  low_bytes = 2 leaves one value of `high`,
which costs nothing: that is `theta_raw` and 4 to 8 bytes.  Counts are integers,
so both ends build the same model, and the decoder counts again what it has
decoded.

Payload (varint: see varint.py):

    1 B                 low_bytes, plus 4 where each tensor has its own counts
    varint              n, the number of distinct values of `high`
    n varints           the smallest, then each gap to the next, minus one
    n or L n varints    how often each occurs, all n of a tensor together
    low_bytes * d B     the low bytes: little-endian, parameter by parameter
    4 B words           range coder: d values of `high`, as indices in [0, n)
"""

from typing import NamedTuple

import numpy as np

from fedpm_jax.codecs import base, rangecoder, varint

_PER_TENSOR = 4
_FORMS = (0, 1, 2, _PER_TENSOR, _PER_TENSOR + 1)


class _Plan(NamedTuple):
  """One way to code a theta.

  Attributes:
    form: the first byte of the payload.
    sizes: of the parts that have counts of their own: (d,), or L tensors.
    highs: the distinct values of `high`, in order, int64 `[n]`.
    counts: how often each occurs in each part, int64 `[1 or L, n]`.
  """

  form: int
  sizes: tuple[int, ...]
  highs: np.ndarray
  counts: np.ndarray

  def table(self) -> bytes:
    """All of the payload that comes before the low bytes."""
    gaps = np.diff(self.highs, prepend=-1) - 1
    table = np.concatenate([[self.highs.size], gaps, self.counts.ravel()])
    return bytes([self.form]) + varint.encode(table)

  def bits(self) -> float:
    """About what the whole payload takes, in bits."""
    # The stream takes about the entropy.  A value that does not occur takes
    # nothing, but log2 of 0 would be -inf.
    low = 8 * (self.form % _PER_TENSOR) * sum(self.sizes)
    totals = self.counts.sum(axis=1, keepdims=True)
    share = self.counts / np.maximum(totals, 1)
    information = -np.log2(share, where=share > 0, out=np.zeros_like(share))
    return (
      8 * len(self.table()) + low + float((self.counts * information).sum())
    )


def plain_bits(levels: np.ndarray, counts: np.ndarray) -> float:
  """About how many bits `theta_levels` needs at most.

  Args:
    levels: the distinct values of q, in order, integers `[n]`.
    counts: how often each occurs, integers `[n]`.
  """
  size = int(counts.sum())
  # One table for the whole vector, or both bytes of q as they are.
  return min(_Plan(0, (size,), levels, counts[None]).bits(), 16 * size + 64)


def _plans(theta: np.ndarray, sizes: tuple[int, ...]) -> list[_Plan]:
  """All plans for q `[d]` whose tables are not too long."""
  plans = []
  for low_bytes in range(3):
    high = theta.astype(np.int32) >> 8 * low_bytes
    counts = np.bincount(high)
    highs = np.flatnonzero(counts)
    whole = counts[highs][None]
    plans.append(_Plan(low_bytes, (theta.size,), highs, whole))
    # A table entry takes at least a byte.  With more entries than parameters
    # the table alone costs 8 bpp, and its size would not be bounded by d.
    many = len(sizes) * highs.size > theta.size
    # low_bytes = 2 leaves one value of `high`, and one tensor is the whole.
    if low_bytes == 2 or len(sizes) == 1 or many:
      continue
    indices = _indices(high, highs)
    each = np.stack(
      [
        np.bincount(tensor, minlength=highs.size)
        for tensor in base.split(indices, sizes)
      ]
    )
    plans.append(_Plan(_PER_TENSOR + low_bytes, sizes, highs, each))
  return plans


def _indices(high: np.ndarray, highs: np.ndarray) -> np.ndarray:
  """The index of each value among the distinct ones, int32 `[d]`."""
  # A table to look up in is faster than a binary search for each value.
  index_of = np.zeros(int(highs[-1]) + 1, np.int32)
  index_of[highs] = np.arange(highs.size)
  return index_of[high]


def _encode(theta: np.ndarray, side: base.SideInformation) -> bytes:
  plan = min(_plans(theta, side.sizes), key=_Plan.bits)
  low_bytes = plan.form % _PER_TENSOR
  low = theta.astype('<u2').view(np.uint8).reshape(-1, 2)[:, :low_bytes]
  indices = _indices(theta.astype(np.int32) >> 8 * low_bytes, plan.highs)
  writer = rangecoder.Writer()
  for tensor, counts in zip(
    base.split(indices, plan.sizes), plan.counts, strict=True
  ):
    writer.levels(tensor, counts)
  return plan.table() + low.tobytes() + writer.finish()


def _decode(
  payload: base.Payload, count: int, side: base.SideInformation
) -> np.ndarray:
  plan, payload = _read_plan(payload, count, side)
  low_bytes = plan.form % _PER_TENSOR
  if len(payload) < low_bytes * count:
    raise base.WireError(
      f'theta_levels: low bytes: got {len(payload)} B, expected'
      f' {low_bytes * count}.'
    )
  reader = rangecoder.Reader(payload[low_bytes * count :])
  indices = []
  for size, counts in zip(plan.sizes, plan.counts, strict=True):
    tensor = reader.levels(size, counts)
    if (np.bincount(tensor, minlength=counts.size) != counts).any():
      raise base.WireError('theta_levels: counts are not those of the symbols.')
    indices.append(tensor)
  reader.finish()
  theta = plan.highs[np.concatenate(indices)] << 8 * low_bytes
  low = np.frombuffer(payload, np.uint8, low_bytes * count)
  for position, part in enumerate(low.reshape(count, low_bytes).T):
    theta |= part.astype(np.int64) << 8 * position
  return theta.astype(np.uint16)


def _read_plan(
  payload: base.Payload, count: int, side: base.SideInformation
) -> tuple[_Plan, base.Payload]:
  """The plan in front of a payload, validated, and what follows it."""
  if not payload or payload[0] not in _FORMS:
    got = payload[0] if payload else 'nothing'
    raise base.WireError(
      f'theta_levels: form: got {got}, expected one of {_FORMS}.'
    )
  form, payload = payload[0], payload[1:]
  (n,), used = varint.decode(payload, 1)
  n, payload = int(n), payload[used:]
  # How many values `high` can have.  The bound comes before the table is read,
  # so a hostile n costs nothing.
  values = base.THETA_SCALE >> 8 * (form % _PER_TENSOR)
  if not 1 <= n <= min(count, values):
    raise base.WireError(
      f'theta_levels: levels: got {n}, expected 1 to {min(count, values)}.'
    )
  sizes = side.sizes if form >= _PER_TENSOR else (count,)
  table, used = varint.decode(payload, n + len(sizes) * n)
  highs = np.cumsum(table[:n] + 1) - 1
  if highs[-1] >= values:
    raise base.WireError(
      f'theta_levels: levels: got {highs[-1]}, expected below {values}.'
    )
  counts = table[n:].reshape(len(sizes), n)
  if not counts.any(axis=0).all() or (counts.sum(axis=1) != sizes).any():
    raise base.WireError('theta_levels: counts do not add up.')
  return _Plan(form, sizes, highs, counts), payload[used:]


THETA_LEVELS = base.checked(
  name='theta_levels',
  number=7,
  symbols='theta',
  encode=_encode,
  decode=_decode,
)
