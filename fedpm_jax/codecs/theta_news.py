"""Theta for a client that can foresee most of it: what is new, and no more.

A client that took part in the last round has the theta of that round.  Where
dithers are shared it also has the guesses of all masks (`codecs.dither`), and
so the theta that would follow if no guess were wrong.  A guess is wrong where
theta crossed a dither.  How likely that is, upwards and downwards, is known
too, and `Contexts` turns it into a context per position.  Without shared
dithers the best guess is the last theta.  Before the first round every client
derives theta from the seed.

Levels are the distinct values of theta.  The code says by how many levels theta
differs from what was expected, with the exact counts of each context, which the
message carries.  So the law of the drift is measured instead of assumed.  Where
there are more than 256 levels, it says the difference itself: a list of all
levels, and of the expected ones among them, would cost more than it helps.

Payload (varint: see varint.py):

    1 B       form, 0: theta is as expected, and nothing follows
              1: a payload of `theta_levels` follows
              2: what follows is
              3: the same, all contexts taken for one
              4: more than 256 levels; the differences of theta, a group for
                 each context that occurs, follow (`codecs.differences`)
              5: the same, all contexts taken for one

    varint    n <= 256, the number of levels
    n varints the smallest, then each gap to the next, minus one
    varint    the least difference in levels, plus n, in [1, 2 n)
    varints   for each context that occurs, in order: by how much its own least
              difference is above that one, and how many differences follow
              from there
    varints   the counts of all these
    4 B words range coder: differences, context by context
"""

import numpy as np

from fedpm_jax.codecs import (
  base,
  differences,
  dither,
  rangecoder,
  theta,
  varint,
)

_SAME, _LEVELS, _NEWS, _MERGED, _FINE, _FINE_MERGED = range(6)
_MAX_LEVELS = 256
# With fewer parameters than this, one table for each context may not pay.
_SMALL = 2**16

# About 65536 P(flip) by distance, for a drift of half a logit.  It only sorts
# positions, so it need not be right: with true drifts of 0.5 to 0.6, a law for
# 0.35 or 0.7 gave a rate 2 % higher, and one for 0.25 or 1 a rate 6 % higher.
# A machine that rounds exp in another way sorts differently and finds the
# counts or the checksum wrong, which is a WireError.
_SIGMA = 0.5 * dither.UNIT
_FLIP = (
  base.THETA_SCALE
  * np.exp(
    -0.5 * (np.arange(dither.MAX_DISTANCE + 1) / _SIGMA) ** 2
    - 0.8 * np.arange(dither.MAX_DISTANCE + 1) / _SIGMA
  )
  / 2
).astype(np.int32)
_OCTAVES = 12  # of the expected number of flips, 2^-8 to 2^3


class Contexts:
  """What the guesses of K masks say about their sum, one mask after another.

  Attributes:
    sums: two int32 `[d]`, which add up: those of all masks are the sums of those
      of any parts of them.  65536 times the expected number of wrong guesses:
      among the ones, where theta falls below what was expected, and among all.
    context: uint8 `[d]`, of `base.Expected`: the expected number of guesses
      that are wrong, in octaves, among the zeros and among the ones.
  """

  def __init__(self, size: int):
    """Knows nothing yet about any of the `size` positions."""
    self.sums = np.zeros(size, np.int32), np.zeros(size, np.int32)

  def add(self, guess: base.Guess) -> None:
    """Takes in the guess of one more mask."""
    # In place, because these arrays are as long as the network.
    flip = _FLIP.take(guess.distance)
    among_ones, among_all = self.sums
    among_all += flip
    flip *= guess.mask
    among_ones += flip

  @property
  def context(self) -> np.ndarray:
    """One number for each pair of octaves, downwards and upwards."""
    among_ones, among_all = self.sums
    down, up = map(_octave, (among_ones, among_all - among_ones))
    return up * np.uint8(_OCTAVES) + down


def _octave(flips: np.ndarray) -> np.ndarray:
  """floor(log2) of 65536 times a number of flips, from 2^-8 on, uint8."""
  return np.clip(np.frexp(flips)[1] - 8, 0, _OCTAVES - 1).astype(np.uint8)


def by_level(q: np.ndarray) -> base.Expected:
  """What to expect of the next theta where only the last one is known.

  Args:
    q: the last theta, uint16 `[d]`.

  Returns:
    The last theta.  Each of its values is a context of its own; where there are
    more than 64 values, neighbours share a context.
  """
  levels = np.unique(q)
  index = np.searchsorted(levels, q) * min(levels.size, 64) // levels.size
  return base.Expected(q, index.astype(np.uint8))


def _encode(q: np.ndarray, side: base.SideInformation) -> bytes:
  expected = base.needed(side.expected)
  if np.array_equal(q, expected.q):
    return bytes([_SAME])
  counts = np.bincount(q)
  levels = np.flatnonzero(counts)
  if levels.size <= _MAX_LEVELS:
    payload = bytes([_NEWS]) + _encode_news(q, levels, expected)
    if q.size < _SMALL:
      merged = _encode_news(q, levels, _merged(expected))
      payload = min(payload, bytes([_MERGED]) + merged, key=len)
  else:
    fine = bytes([_FINE]) + _encode_fine(q, expected)
    merged = bytes([_FINE_MERGED]) + _encode_fine(q, _merged(expected))
    payload = min(fine, merged, key=len)
  # Where theta has moved far from what was expected, plain coding is shorter.
  if 8 * len(payload) < theta.plain_bits(levels, counts[levels]):
    return payload
  return bytes([_LEVELS]) + theta.THETA_LEVELS.encode(q, side)


def _encode_news(
  q: np.ndarray, levels: np.ndarray, expected: base.Expected
) -> bytes:
  """The payload of form 2, without its first byte.

  Args:
    q: uint16 `[d]`.
    levels: the distinct values of q, in order, int64 `[n]`.
    expected: of q.
  """
  order, sizes = _by_context(expected.context)
  # What was expected need not be a level; it counts as the next one below it.
  news = (_index(levels)[q] - _index(levels)[expected.q])[order]
  lowest = int(news.min())
  gaps = np.diff(levels, prepend=-1) - 1
  # Plus n, because a varint cannot be negative.
  spans, all_counts = [lowest + levels.size], []
  writer = rangecoder.Writer()
  for group in base.split(news - lowest, sizes):
    counts = np.bincount(group)
    first = int(np.argmax(counts > 0))
    spans += [first, counts.size - first]
    all_counts.append(counts[first:])
    writer.levels(group - first, counts[first:])
  table = np.concatenate([[levels.size], gaps, spans, *all_counts])
  return varint.encode(table) + writer.finish()


def _encode_fine(q: np.ndarray, expected: base.Expected) -> bytes:
  """The payload of form 4, without its first byte."""
  order, sizes = _by_context(expected.context)
  news = (q.astype(np.int32) - expected.q)[order]
  return differences.encode(base.split(news, sizes))


def _decode(
  payload: base.Payload, count: int, side: base.SideInformation
) -> np.ndarray:
  expected = base.needed(side.expected)
  form, payload = bytes(payload[:1]), payload[1:]
  if form == bytes([_SAME]) and not payload:
    return expected.q.copy()
  if form == bytes([_LEVELS]):
    return theta.THETA_LEVELS.decode(payload, count, side)
  if form in (bytes([_MERGED]), bytes([_FINE_MERGED])):
    expected = _merged(expected)
  if form in (bytes([_NEWS]), bytes([_MERGED])):
    return _decode_news(payload, count, expected)
  if form in (bytes([_FINE]), bytes([_FINE_MERGED])):
    return _decode_fine(payload, count, expected)
  raise base.WireError(
    f'theta_news: form: got {form!r} and {len(payload)} B, expected 0 and'
    ' nothing, or 1 to 5.'
  )


def _decode_news(
  payload: base.Payload, count: int, expected: base.Expected
) -> np.ndarray:
  """The inverse of `_encode_news`; WireError for what it cannot write."""
  # Each part of the table is checked before it decides how much is read next.
  table = varint.Reader(payload)
  (n,) = table.read(1)
  if not 1 <= n <= min(_MAX_LEVELS, count):
    raise base.WireError(f'theta_news: levels: got {n}, expected 1 to 256.')
  levels = np.cumsum(table.read(n) + 1) - 1
  if levels[-1] >= base.THETA_SCALE:
    raise base.WireError(
      f'theta_news: levels: got {levels[-1]}, expected below'
      f' {base.THETA_SCALE}.'
    )
  order, sizes = _by_context(expected.context)
  lowest, *spans = table.read(1 + 2 * len(sizes))
  first, alphabets = np.array(spans).reshape(-1, 2).T
  # Every difference lies between -(n - 1) and n - 1, plus n.
  if (
    not 1 <= lowest < 2 * n
    or alphabets.min() < 1
    or first.min() != 0
    or (lowest + (first + alphabets).max() > 2 * n)
  ):
    highest = lowest + (first + alphabets).max() - 1
    raise base.WireError(
      f'theta_news: differences: got {alphabets.min()} of a context, from'
      f' {lowest - n} + {first.min()} to {highest - n}, expected at least 1,'
      f' from {1 - n} + 0 to {n - 1}.'
    )
  all_counts = base.split(table.read(alphabets.sum()), tuple(alphabets))
  for size, counts in zip(sizes, all_counts, strict=True):
    if counts.sum() != size or not (counts[0] and counts[-1]):
      raise base.WireError('theta_news: counts do not add up.')
  reader = rangecoder.Reader(table.rest())
  news = []
  for size, low, counts in zip(sizes, first, all_counts, strict=True):
    group = reader.levels(size, counts)
    if (np.bincount(group, minlength=counts.size) != counts).any():
      raise base.WireError('theta_news: counts are not those of the symbols.')
    news.append(group + (low + lowest - n))
  reader.finish()
  index = np.empty(count, np.int64)
  # From the order of contexts back to that of the parameters.
  index[order] = np.concatenate(news)
  index += _index(levels)[expected.q]
  if index.min() < 0 or index.max() >= n:
    raise base.WireError('theta_news: a difference leads to no level.')
  q = levels[index].astype(np.uint16)
  # An encoder lists only levels that occur, and says that nothing is new in one
  # byte.
  if np.bincount(index, minlength=n).min() == 0 or np.array_equal(
    q, expected.q
  ):
    raise base.WireError('theta_news: is not as short as an encoder writes it.')
  return q


def _decode_fine(
  payload: base.Payload, count: int, expected: base.Expected
) -> np.ndarray:
  """The inverse of `_encode_fine`; WireError for what it cannot write."""
  order, sizes = _by_context(expected.context)
  q = np.empty(count, np.int64)
  q[order] = np.concatenate(differences.decode(payload, sizes))
  q += expected.q
  if q.min() < 1 or q.max() >= base.THETA_SCALE:
    raise base.WireError('theta_news: a difference leads out of [1, 65535].')
  if np.count_nonzero(np.bincount(q)) <= _MAX_LEVELS:
    raise base.WireError('theta_news: is not as short as an encoder writes it.')
  return q.astype(np.uint16)


def _merged(expected: base.Expected) -> base.Expected:
  """The same, with one context for all positions."""
  return expected._replace(context=np.zeros_like(expected.context))


def _index(levels: np.ndarray) -> np.ndarray:
  """q -> index of the highest level that is at most q (else 0), int32."""
  index = np.searchsorted(levels, np.arange(base.THETA_SCALE), 'right') - 1
  return np.maximum(index, 0).astype(np.int32)


def _by_context(context: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
  """Positions sorted by context, and how many each context that occurs has."""
  counts = np.bincount(context)
  # Both ends need the same order, so the sort is stable; it is a radix sort.
  order = np.argsort(context, kind='stable')
  return order, tuple(counts[counts > 0].tolist())


THETA_NEWS = base.checked(
  name='theta_news',
  number=9,
  symbols='theta',
  encode=_encode,
  decode=_decode,
  needs=('expected',),
  fallback='theta_levels',
)
