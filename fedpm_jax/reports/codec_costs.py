"""What every codec would have cost for the symbols that a run sent.

`costs` sends the masks of a round once more through every codec that can carry
them.  Real costs are `8 * len(message) / d`, header included; ideal ones are
code lengths of the model that a codec claims, of the whole and per tensor.

Dimensions: K clients of the round, d parameters, L tensors.
"""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from scipy import special

from fedpm_jax import codecs
from fedpm_jax.codecs import base, dither
from fedpm_jax.masks import SCALE, Layout
from fedpm_jax.protocol import wire
from fedpm_jax.protocol.foresight import Foresight
from fedpm_jax.protocol.method import Method
from fedpm_jax.protocol.server import Held
from fedpm_jax.simulation.rounds import Kept

UPLINK = ('bitpack', 'frequency', 'per_tensor', 'prior', 'dither')
DOWNLINK = ('theta_raw', 'theta_levels', 'theta_news')
# The codecs whose guesses and expectations are compared, whatever a run used.
BEST = {'uplink': 'dither', 'downlink': 'theta_news'}


def costs(
  kept: Kept, foresight: Foresight, layout: Layout
) -> list[dict[str, Any]]:
  """The costs of one round, a row per direction and codec.

  Args:
    kept: the round.
    foresight: of the run's method with the codecs `BEST`.
    layout: of the network.

  Returns:
    Rows of round_idx, direction, codec, `real` and `ideal` (bits per parameter
    and client) and `ideal/<tensor>`, bits per parameter of that tensor.  There
    is no ideal where a codec has no model but its own format.
  """
  size = layout.num_parameters
  real, ideal = _uplink_costs(kept, foresight, layout)
  real |= {
    name: _downlink_bytes(name, kept, foresight, layout.sizes)
    for name in DOWNLINK
  }
  rows = []
  for name, lengths in real.items():
    row = {
      'round_idx': kept.round_idx,
      'direction': 'uplink' if name in UPLINK else 'downlink',
      'codec': name,
      'real': 8 * float(np.mean(lengths)) / size,
    }
    if name in ideal:
      bits = np.mean(ideal[name], axis=0)
      row['ideal'] = float(bits.sum()) / size
      for tensor, total, count in zip(
        layout.names, bits, layout.sizes, strict=True
      ):
        row[f'ideal/{tensor}'] = float(total) / count
    rows.append(row)
  return rows


def _uplink_costs(
  kept: Kept, foresight: Foresight, layout: Layout
) -> tuple[dict[str, list[int]], dict[str, list[np.ndarray]]]:
  """Bytes of every client's message, and ideal bits `[L]`, of every codec."""
  real = {name: [] for name in UPLINK}
  ideal = {name: [] for name in UPLINK}
  guesses = foresight.guesses(kept.q, kept.ids, kept.round_idx)
  for packed, guess in zip(kept.symbols, guesses, strict=True):
    mask = np.unpackbits(packed, count=layout.num_parameters).view(np.bool_)
    side = base.SideInformation(q=kept.q, sizes=layout.sizes, guess=guess)
    for name in UPLINK:
      real[name].append(_bytes(mask, side, name, kept.round_idx))
      ideal[name].append(ideal_bits(name, mask, side))
  return real, ideal


def _downlink_bytes(
  name: str, kept: Kept, foresight: Foresight, sizes: tuple[int, ...]
) -> list[int]:
  """Bytes of the broadcast to every client of the cohort."""
  codec, side = codecs.CODECS[name], base.SideInformation(sizes=sizes)
  if 'expected' not in codec.needs:
    return [_bytes(kept.q, side, name, kept.round_idx)] * len(kept.ids)
  held = Held(kept.known_q, kept.known_members)
  lengths = {}
  informed = held.members[kept.ids]
  if informed.any():
    expected = foresight.expected(held.q, held.ids, kept.round_idx)
    knowing = side._replace(expected=expected)
    lengths[True] = _bytes(kept.q, knowing, name, kept.round_idx)
  if not informed.all():
    lengths[False] = _bytes(kept.q, side, codec.fallback, kept.round_idx)
  return [lengths[bool(knows)] for knows in informed]


def _bytes(
  symbols: np.ndarray, side: base.SideInformation, codec: str, round_idx: int
) -> int:
  """The length of a message; the direction does not change it."""
  message = wire.encode(
    symbols,
    side,
    codec=codec,
    kind=wire.Kind.UPLINK,
    round_idx=round_idx,
    client=0,
    layout_hash=bytes(8),
  )
  return len(message)


def ideal_bits(
  name: str, mask: np.ndarray, side: base.SideInformation
) -> np.ndarray:
  """The code length of each tensor under a codec's model, in bits, `[L]`.

  Nothing is charged for frequencies or for sigma.

  Args:
    name: a row of `UPLINK`.
    mask: bool `[d]`.
    side: with q and the guess.
  """
  log2_p = _LOG2_P[name](mask, side)
  return np.array([-part.sum() for part in base.split(log2_p, side.sizes)])


def _log2_of_bits(mask: np.ndarray, p: Any) -> np.ndarray:
  """log2 of the probability of each bit, where p is that of a one."""
  p = np.clip(p, 1 / SCALE, 1 - 1 / SCALE)
  return np.log2(np.where(mask, p, 1 - p))


def _log2_per_tensor(
  mask: np.ndarray, side: base.SideInformation
) -> np.ndarray:
  tensors = base.split(mask, side.sizes)
  shares = np.array([t.mean() if t.size else 0.5 for t in tensors])
  return _log2_of_bits(mask, np.repeat(shares, side.sizes))


def _log2_dither(mask: np.ndarray, side: base.SideInformation) -> np.ndarray:
  guess = base.needed(side.guess)
  flips = mask ^ guess.mask
  z = guess.distance / (dither.UNIT * dither.sigma(mask, guess))
  return special.log_ndtr(np.where(flips, -z, z)) / np.log(2)


_MOST_CLIENTS = 4  # whose messages are looked at, tensor by tensor
_MOST_LEVELS = 256  # of theta; with more, `theta_news` has another form


def by_tensor(
  kept: Kept, foresight: Foresight, method: Method
) -> tuple[np.ndarray | None, np.ndarray | None]:
  """Ideal bits `[L]` of a message up and of one down, by the run's own codecs.

  They are code lengths of a codec's model, and no lengths of messages: those
  are of all tensors together, and have a header.

  Args:
    kept: the round.
    foresight: of the method.
    method: of the run.

  Returns:
    Up, the mean over the first clients of the round; None where the codec has no
    row in `UPLINK`.  Down, to a client that holds the last theta, if there is
    one; None where the codec has no such model.
  """
  sizes = method.network.layout.sizes
  uplink = None
  if method.uplink in UPLINK:
    few, few_symbols = kept.ids[:_MOST_CLIENTS], kept.symbols[:_MOST_CLIENTS]
    guesses: Iterable[base.Guess | None] = itertools.repeat(None)
    if method.dithers_are_shared:
      guesses = foresight.guesses(kept.q, few, kept.round_idx)
    uplink = np.mean(
      [
        ideal_bits(
          method.uplink,
          np.unpackbits(packed, count=sum(sizes)).view(np.bool_),
          base.SideInformation(q=kept.q, sizes=sizes, guess=guess),
        )
        for packed, guess in zip(few_symbols, guesses, strict=False)
      ],
      axis=0,
    )
  expected, held = None, Held(kept.known_q, kept.known_members)
  if method.downlink_needs_memory and held.members[kept.ids].any():
    expected = foresight.expected(held.q, held.ids, kept.round_idx)
  return uplink, ideal_bits_of_theta(method.downlink, kept.q, expected, sizes)


def ideal_bits_of_theta(
  name: str,
  q: np.ndarray,
  expected: base.Expected | None,
  sizes: tuple[int, ...],
) -> np.ndarray | None:
  """The code length of each tensor of a theta, in bits, `[L]`.

  Nothing is charged for levels and their counts.

  Args:
    name: a row of `DOWNLINK`.
    q: uint16 `[d]`.
    expected: of it, where the receiver has an older one.
    sizes: of the tensors.

  Returns:
    None where the codec's model is another.
  """
  if name == 'theta_raw':
    return 16.0 * np.array(sizes)
  levels = np.unique(q)
  if name not in DOWNLINK or levels.size > _MOST_LEVELS:
    return None
  news = np.searchsorted(levels, q)
  context = np.zeros(q.size, np.int64)
  if expected is not None:
    # What was expected need not be a level; it counts as the next one below it.
    place = np.searchsorted(levels, expected.q, 'right') - 1
    news = news - np.maximum(place, 0)
    context += expected.context
  pairs = 2 * levels.size * context + news + levels.size
  share = np.bincount(pairs)[pairs] / np.bincount(context)[context]
  return np.array([-part.sum() for part in base.split(np.log2(share), sizes)])


# What each codec's model says of a mask: log2 of every bit's probability.
_LOG2_P: dict[str, Callable[[np.ndarray, base.SideInformation], np.ndarray]] = {
  'bitpack': lambda mask, side: np.full(mask.size, -1.0),
  'frequency': lambda mask, side: _log2_of_bits(mask, mask.mean()),
  'per_tensor': _log2_per_tensor,
  'prior': lambda mask, side: _log2_of_bits(mask, base.needed(side.q) / SCALE),
  'dither': _log2_dither,
}
