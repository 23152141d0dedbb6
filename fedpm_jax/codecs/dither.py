"""Masks whose dithers the receiver can derive: a twentieth of a bit or so.

A mask is m_i = [u_i < q_i] with q = 65536 theta_k and 16 random bits u_i, the
dither.  Let u follow from a key that both ends can derive.  The mask is still
exactly Bernoulli(theta_k), but a receiver who knows u and the theta that the
round started from can guess it: g_i = [u_i < q_i of the round's start].  Local
training moves theta.  The guess is wrong, the bit *flips*, only where theta
crosses the dither.  Let z_i = |logit(theta_i) - logit(u_i)| be the distance of
theta_i from its dither.  With a drift of the logit that is normal with standard
deviation sigma,

    P(flip_i) = Phi(-z_i / sigma)

so most bits are as good as known.  This is subtractive dithering for a one-bit
quantiser (Roberts, "Picture coding using pseudo-random noise", IRE Transactions
on Information Theory 1962).  It does not change the learning by a bit.

The price is privacy.  With private dithers the server sees one Bernoulli sample
of theta_ki; with shared dithers it sees whether theta_ki lies above a known
number.  `prior` needs no shared dithers.

Payload: positions at less than 8/3 sigma are *uncertain*.  They are sorted into
bins of sigma / 6, and whether one flips is coded with the probability of its
bin.  All positions are then cut into blocks of 64, in which the uncertain ones
count as no flip.  Each block first says whether it has a flip; only blocks that
have one are coded bit by bit.

    4 B     CRC-32 of the integer tables below, which both ends computed
    1 B     index of sigma, which the encoder chooses, in [0, 64)
    2 B     65536 times the share of blocks with a flip
    2 B     65536 times the share of flips in these blocks
    words   range coder: bins in order, blocks, what is in the blocks
"""

import math
import struct
import zlib

import numpy as np

from fedpm_jax.codecs import base, rangecoder

UNIT = 256  # logits are integers, in 1/256
_BINS, _PER_SIGMA = 16, 6  # bins of sigma / 6
_BLOCK = 64  # a multiple of 8, because `_encode` tests 8 bools as one integer
_HEAD = struct.Struct('<IBHH')
_SIGMAS = 64

# The tables.  Two maths libraries may round the values of these functions
# differently, so the payload has a checksum of the tables.
_n = np.arange(base.THETA_SCALE)
LOGIT_Q = np.zeros(base.THETA_SCALE, np.int16)  # logit(q / 65536)
LOGIT_Q[1:] = np.rint(UNIT * np.log(_n[1:] / (base.THETA_SCALE - _n[1:])))
# logit((u + 1/2) / 65536): a mask bit changes between q = u and q = u + 1, and
# this is the middle of the two.
LOGIT_U = np.rint(
  UNIT * np.log((_n + 0.5) / (base.THETA_SCALE - 0.5 - _n))
).astype(np.int16)
MAX_DISTANCE = int(LOGIT_U[-1]) + int(LOGIT_Q[-1])
# 1/16 logit and more, eight values to an octave, in units of 1/256 logit.
_SIGMA = np.rint(16 * 2 ** (np.arange(_SIGMAS) / 8)).astype(np.int64)
# 65536 P(flip) in the middle of bin b: Phi(-z) = erfc(z / sqrt(2)) / 2.
_FLIP = np.array(
  [
    round(
      base.THETA_SCALE / 2 * math.erfc((b + 0.5) / _PER_SIGMA / math.sqrt(2))
    )
    for b in range(_BINS)
  ]
)
TABLES_CRC = zlib.crc32(
  b''.join(
    table.astype('<i8').tobytes() for table in (LOGIT_Q, LOGIT_U, _SIGMA, _FLIP)
  )
)


def guess(q: np.ndarray, dithers: np.ndarray) -> base.Guess:
  """What both ends know of a mask before it is sent.

  Args:
    q: the theta that the round started from, uint16 `[d]` in [1, 65535].
    dithers: u, uint16 `[d]`.

  Returns:
    The mask as it were if nothing had been learned, and how far each bit is
    from flipping.
  """
  distance = np.abs(LOGIT_Q.take(q) - LOGIT_U.take(dithers))
  return base.Guess(dithers < q, distance.astype(np.uint16, copy=False))


def _limit(index: int) -> int:
  """The least distance that is beyond the last bin."""
  return int(-(-_BINS * _SIGMA[index] // _PER_SIGMA))


def _bins(index: int) -> np.ndarray:
  """The bin of every distance below the limit, uint8 `[limit]`."""
  bins = _PER_SIGMA * np.arange(_limit(index)) // _SIGMA[index]
  return bins.astype(np.uint8)


# The encoder chooses sigma by an estimate of the message's length.  These
# tables say how many bits a flip, and a bit that stays, costs for each sigma
# and each distance, in cells of 1/16 logit.  Beyond the last bin they are
# rough: a flip costs 14 bits and a stay nothing.
_CELL = UNIT // 16
_CELLS = MAX_DISTANCE // _CELL + 1


def _costs() -> tuple[np.ndarray, np.ndarray]:
  """Bits of a flip and of a stay, float64 `[_SIGMAS, _CELLS]` each."""
  middle = _CELL * (np.arange(_CELLS) + 0.5)
  bins = (_PER_SIGMA * middle[None] / _SIGMA[:, None]).astype(np.int64)
  p_in_bin = _FLIP[np.minimum(bins, _BINS - 1)] / base.THETA_SCALE
  p = np.where(bins < _BINS, p_in_bin, 2**-14)
  stay = np.where(bins < _BINS, -np.log2(1 - p), 0)
  return -np.log2(p), stay


_FLIP_COST, _STAY_COST = _costs()
_SAMPLE = 8  # every eighth position shows how the distances are spread


def _best_sigma(distance: np.ndarray, flips: np.ndarray) -> int:
  """The index of the sigma that makes the message shortest, by estimate.

  Args:
    distance: uint16 `[d]`.
    flips: bool `[d]`.
  """
  cells = lambda z: np.bincount(z // _CELL, minlength=_CELLS)
  # Flips are few and all are counted; all positions are only sampled.
  flipped = cells(distance[np.flatnonzero(flips)])
  all_cells = _SAMPLE * cells(distance[::_SAMPLE])
  stayed = np.maximum(all_cells - flipped, 0)
  return int(np.argmin(_FLIP_COST @ flipped + _STAY_COST @ stayed))


def sigma(mask: np.ndarray, guess: base.Guess) -> float:
  """The drift that the encoder chooses for a mask `[d]`, in logits."""
  return _SIGMA[_best_sigma(guess.distance, mask ^ guess.mask)] / UNIT


def _uncertain(
  distance: np.ndarray, index: int
) -> tuple[np.ndarray, tuple[int, ...]]:
  """Positions within the bins, sorted by bin, and how many each bin has."""
  # Both ends call this, so they code the bits in the same order.
  positions = np.flatnonzero(distance < _limit(index))
  bins = _bins(index).take(distance[positions])
  order = np.argsort(bins, kind='stable')  # a radix sort
  return positions[order], tuple(np.bincount(bins, minlength=_BINS).tolist())


def _shares(blocks: np.ndarray, hit: np.ndarray) -> tuple[int, int]:
  """The two frequencies of the header.

  Args:
    blocks: bool `[blocks, 64]`, the flips.
    hit: bool `[blocks]`, which of them have a flip.
  """
  hits = int(np.count_nonzero(hit))
  ones = np.count_nonzero(blocks)
  return (
    int(base.frequency_of_ones(hits, hit.size)),
    int(base.frequency_of_ones(ones, hits * _BLOCK)),
  )


def _check(distance: np.ndarray) -> None:
  """ValueError unless the distances are such as `guess` makes."""
  if distance.max() > MAX_DISTANCE:
    raise ValueError(
      f'dither: side.guess.distance: got {distance.max()}, expected at most'
      f' {MAX_DISTANCE}.'
    )


def _encode(mask: np.ndarray, side: base.SideInformation) -> bytes:
  guessed, distance = base.needed(side.guess)
  _check(distance)
  flips = mask ^ guessed
  index = _best_sigma(distance, flips)
  positions, counts = _uncertain(distance, index)
  writer = rangecoder.Writer()
  groups = base.split(flips[positions], counts)
  for group, q in zip(groups, _FLIP, strict=True):
    writer.bits(group, q)
  # These are coded; what is left for the blocks is the rare flips elsewhere.
  flips[positions] = False
  blocks = np.pad(flips, (0, -flips.size % _BLOCK)).reshape(-1, _BLOCK)
  # 8 bools are tested as one integer of 8 bytes, which is faster.
  hit = np.any(blocks.view(np.uint64), axis=1)
  shares = _shares(blocks, hit)
  writer.bits(hit, shares[0])
  writer.bits(blocks[hit].reshape(-1), shares[1])
  return _HEAD.pack(TABLES_CRC, index, *shares) + writer.finish()


def _decode(
  payload: base.Payload, count: int, side: base.SideInformation
) -> np.ndarray:
  guessed, distance = base.needed(side.guess)
  _check(distance)
  if len(payload) < _HEAD.size:
    raise base.WireError(
      f'dither: payload: got {len(payload)} B, expected at least {_HEAD.size}.'
    )
  tables, index, *shares = _HEAD.unpack_from(payload)
  if tables != TABLES_CRC:
    raise base.WireError(
      f'dither: checksum of the tables: got {tables}, expected {TABLES_CRC}.'
    )
  if index >= _SIGMAS or not all(shares):
    raise base.WireError(
      f'dither: sigma and shares: got {index} and {shares}, expected below'
      f' {_SIGMAS} and [1, 65535].'
    )
  positions, counts = _uncertain(distance, index)
  reader = rangecoder.Reader(payload[_HEAD.size :])
  flips = [reader.bits(n, q) for n, q in zip(counts, _FLIP, strict=True)]
  hit = reader.bits(-(-count // _BLOCK), shares[0])
  blocks = np.zeros((hit.size, _BLOCK), np.bool_)
  inside = reader.bits(_BLOCK * int(np.count_nonzero(hit)), shares[1])
  blocks[hit] = inside.reshape(-1, _BLOCK)
  reader.finish()
  # An encoder marks only blocks with a flip, and writes no flip twice and none
  # after the last position.
  rest = blocks.reshape(-1)
  consistent = blocks[hit].any(axis=1).all() and not (
    rest[count:].any() or rest[positions].any()
  )
  if not consistent or _shares(blocks, hit) != tuple(shares):
    raise base.WireError(
      'dither: blocks and their shares contradict each other.'
    )
  mask = guessed ^ rest[:count]
  mask[positions] ^= np.concatenate(flips)
  return mask


DITHER = base.checked(
  name='dither',
  number=8,
  symbols='mask',
  encode=_encode,
  decode=_decode,
  needs=('guess',),
)
