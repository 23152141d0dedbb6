"""Masks whose dithers the receiver can derive: a twentieth of a bit or so.

A mask is m_i = [u_i < q_i] with q = 65536 theta_k and 16 random bits u_i, the
dither.  Where u follows from a key that both ends can derive, the mask is still
exactly Bernoulli(theta_k), but a receiver who knows u and the theta that the
round started from can guess it: g_i = [u_i < q_i of the round's start].  Local
training moved theta; the guess is wrong, the bit *flips*, only where theta
crossed the dither.  In logits, at a distance z_i = |logit(theta_i) - logit(u_i)|
from the dither and with a drift that is normal with standard deviation sigma,

    P(flip_i) = Phi(-z_i / sigma)

so most bits are as good as known.  This is subtractive dithering put to use for
a one-bit quantiser (Roberts, "Picture coding using pseudo-random noise", IRE
Transactions on Information Theory 1962); the learning is not changed by a bit.

What it costs is privacy: with private dithers the server sees one Bernoulli
sample of theta_ki, with shared ones whether theta_ki lies above a known number.
`prior` needs no shared dithers.

Payload: flips at less than 8/3 sigma are coded one by one, each with the
probability of its bin of sigma / 6; of the others, blocks of 64 positions
(the certain ones among them count as no flip) say first whether there is one.

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
_BLOCK = 64
_HEAD = struct.Struct('<IBHH')
_SIGMAS = 64

# The tables.  Their entries are rounded values of functions that two maths
# libraries may round differently: hence the checksum.
_n = np.arange(base.THETA_SCALE)
LOGIT_Q = np.zeros(base.THETA_SCALE, np.int16)  # of q / 65536
LOGIT_Q[1:] = np.rint(UNIT * np.log(_n[1:] / (65536 - _n[1:])))
# of (u + 1/2) / 65536, the middle of the thetas between q = u and q = u + 1
LOGIT_U = np.rint(UNIT * np.log((_n + 0.5) / (65535.5 - _n))).astype(np.int16)
MAX_DISTANCE = int(LOGIT_U[-1]) + int(LOGIT_Q[-1])
_SIGMA = np.rint(16 * 2 ** (np.arange(_SIGMAS) / 8)).astype(np.int64)
# 65536 P(flip) in the middle of bin b.
_FLIP = np.array(
  [
    round(32768 * math.erfc((b + 0.5) / _PER_SIGMA / math.sqrt(2)))
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
    dithers: uint16 `[d]`.

  Returns:
    The mask if nothing had been learned, and how far each bit is from flipping.
  """
  distance = np.abs(LOGIT_Q.take(q) - LOGIT_U.take(dithers))
  return base.Guess(dithers < q, distance.astype(np.uint16, copy=False))


def _limit(index: int) -> int:
  """The first distance beyond the last bin."""
  return int(-(-_BINS * _SIGMA[index] // _PER_SIGMA))


def _bins(index: int) -> np.ndarray:
  """Distance -> bin, uint8 [limit]."""
  bins = _PER_SIGMA * np.arange(_limit(index)) // _SIGMA[index]
  return bins.astype(np.uint8)


# For the choice of sigma: what a flip and what a stay costs, in bits, by the
# distance in cells of 1/16 logit; beyond the last bin roughly.
_CELL = UNIT // 16
_CELLS = MAX_DISTANCE // _CELL + 1


def _costs() -> tuple[np.ndarray, np.ndarray]:
  middle = _CELL * (np.arange(_CELLS) + 0.5)
  bins = (_PER_SIGMA * middle[None] / _SIGMA[:, None]).astype(np.int64)
  p = np.where(bins < _BINS, _FLIP[np.minimum(bins, _BINS - 1)] / 65536, 2**-14)
  stay = np.where(bins < _BINS, -np.log2(1 - p), 0)
  return -np.log2(p), stay


_FLIP_COST, _STAY_COST = _costs()
_SAMPLE = 8  # every eighth position shows how the distances are spread


def _best_sigma(distance: np.ndarray, flips: np.ndarray) -> int:
  cells = lambda z: np.bincount(z // _CELL, minlength=_CELLS)
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
  positions = np.flatnonzero(distance < _limit(index))
  bins = _bins(index).take(distance[positions])
  order = np.argsort(bins, kind='stable')  # a radix sort
  return positions[order], tuple(np.bincount(bins, minlength=_BINS).tolist())


def _shares(blocks: np.ndarray, hit: np.ndarray) -> tuple[int, int]:
  """The two frequencies of the header."""
  hits = int(np.count_nonzero(hit))
  ones = np.count_nonzero(blocks)
  return (
    int(base.frequency_of_ones(hits, hit.size)),
    int(base.frequency_of_ones(ones, hits * _BLOCK)),
  )


def _check(distance: np.ndarray) -> None:
  if distance.max() > MAX_DISTANCE:
    raise ValueError(
      f'dither: side.guess.distance: got {distance.max()}, expected at most'
      f' {MAX_DISTANCE}.'
    )


def _encode(mask: np.ndarray, side: base.SideInformation) -> bytes:
  _check(side.guess.distance)
  flips = mask ^ side.guess.mask
  index = _best_sigma(side.guess.distance, flips)
  positions, counts = _uncertain(side.guess.distance, index)
  writer = rangecoder.Writer()
  groups = base.split(flips[positions], counts)
  for group, q in zip(groups, _FLIP, strict=True):
    writer.bits(group, q)
  flips[positions] = False
  blocks = np.pad(flips, (0, -flips.size % _BLOCK)).reshape(-1, _BLOCK)
  hit = blocks.view(np.uint64).any(axis=1)
  shares = _shares(blocks, hit)
  writer.bits(hit, shares[0])
  writer.bits(blocks[hit].reshape(-1), shares[1])
  return _HEAD.pack(TABLES_CRC, index, *shares) + writer.finish()


def _decode(
  payload: bytes, count: int, side: base.SideInformation
) -> np.ndarray:
  _check(side.guess.distance)
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
  positions, counts = _uncertain(side.guess.distance, index)
  reader = rangecoder.Reader(payload[_HEAD.size :])
  flips = [reader.bits(n, q) for n, q in zip(counts, _FLIP, strict=True)]
  hit = reader.bits(-(-count // _BLOCK), shares[0])
  blocks = np.zeros((hit.size, _BLOCK), np.bool_)
  inside = reader.bits(_BLOCK * np.count_nonzero(hit), shares[1])
  blocks[hit] = inside.reshape(-1, _BLOCK)
  reader.finish()
  rest = blocks.reshape(-1)
  consistent = blocks[hit].any(axis=1).all() and not (
    rest[count:].any() or rest[positions].any()
  )
  if not consistent or _shares(blocks, hit) != tuple(shares):
    raise base.WireError(
      'dither: blocks and their shares contradict each other.'
    )
  mask = side.guess.mask ^ rest[:count]
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
