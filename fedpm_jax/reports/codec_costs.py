"""What every codec would have cost for the symbols that a run sent.

`archive` keeps the symbols of a round, as they crossed the wire, beside the
run's other files; `costs` sends them once more through every codec that can
carry them.  Real costs are `8 * len(message) / d`, header included; ideal ones
are code lengths of the model that a codec claims, of the whole and per tensor.

Dimensions: K clients of the round, d parameters, L tensors.
"""

from typing import Any

import numpy as np
from scipy import special

from fedpm_jax import codecs
from fedpm_jax.codecs import base, dither
from fedpm_jax.protocol import wire
from fedpm_jax.protocol.exchange import Exchange, Known
from fedpm_jax.simulation.rounds import Archived

UPLINK = ('bitpack', 'frequency', 'per_tensor', 'prior', 'dither')
DOWNLINK = ('theta_raw', 'theta_levels', 'theta_news')


def costs(
  kept: Archived, exchange: Exchange, server_state: Any, layout: Any
) -> list[dict[str, Any]]:
  """The costs of one round, a row per direction and codec.

  Args:
    kept: the round.
    exchange: of the run's method; it knows the keys.
    server_state: of the run, any: only shapes are used.
    layout: `masks.Layout` of the network.

  Returns:
    Rows of round_idx, direction, codec, `real` and `ideal` (bits per parameter
    and client) and `ideal/<tensor>`, bits per parameter of that tensor.  There
    is no ideal where a codec has no model but its own format.
  """
  size, sizes = layout.num_parameters, layout.sizes
  ends = {
    'round_idx': kept.round_idx,
    'client': 0,
    'layout_hash': bytes(8),
  }
  real = {name: [] for name in UPLINK + DOWNLINK}
  ideal = {name: [] for name in UPLINK}
  guesses = exchange.guesses(kept.q, kept.ids, kept.round_idx)
  for packed, guess in zip(kept.symbols, guesses, strict=True):
    mask = np.unpackbits(packed, count=size).view(np.bool_)
    side = codecs.SideInformation(q=kept.q, sizes=sizes, guess=guess)
    for name in UPLINK:
      message = wire.encode(
        mask, side, codec=name, kind=wire.Kind.UPLINK, **ends
      )
      real[name].append(len(message))
      ideal[name].append(ideal_bits(name, mask, side))
  known = Known(kept.known_q, kept.known_members)
  for name in DOWNLINK:
    broadcast = exchange.downlink(
      kept.q,
      known if name == 'theta_news' else (),
      server_state,
      kept.ids,
      kept.round_idx,
      codec=name,
    )
    real[name] = broadcast.result().num_bytes
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
      for tensor, total, count in zip(layout.names, bits, sizes, strict=True):
        row[f'ideal/{tensor}'] = float(total) / count
    rows.append(row)
  return rows


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
  if name == 'bitpack':
    return np.array(side.sizes, float)
  if name == 'dither':
    flips = mask ^ side.guess.mask
    z = side.guess.distance / (dither.UNIT * dither.sigma(mask, side.guess))
    log2_p = special.log_ndtr(np.where(flips, -z, z)) / np.log(2)
  else:
    if name == 'prior':
      p = side.q / 65536
    else:
      tensors = base.split(mask, side.sizes)
      shares = [np.mean(t) if t.size else 0.5 for t in tensors]
      p = np.repeat(shares, side.sizes) if name == 'per_tensor' else mask.mean()
    p = np.clip(p, 2**-16, 1 - 2**-16)
    log2_p = np.log2(np.where(mask, p, 1 - p))
  return np.array([-part.sum() for part in base.split(log2_p, side.sizes)])
