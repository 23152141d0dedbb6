"""Leaves out masks that cannot have been drawn near theta.

A poisoned message may be well formed: all ones, inverted bits, fair coins, one
mask that attackers agree on.  The wire cannot refuse it, so the server asks here
before it adds a mask up.  Of a tensor with n bits,

    D = (1/n) sum_b | sum_{i in b} m_i - sum_{i in b} theta_i |

where b runs over 16 bins of positions with about the same theta, that of the
round's start.  D is the share of bits that would have to change for the mask to
have, in every bin, as many ones as theta says.  The mask's distance from theta
is what chance does not explain, in the tensor where that is most:

    distance = max(0, D - 5 / sqrt(n) of every tensor)

A mask whose distance exceeds `max_distance` counts for nothing.

Why it separates.  A mask that is drawn from theta has E D <= 2 / sqrt(n), because
sum_b sqrt(Var_b) <= sqrt(16 n / 4), and a bit changes D by at most 1 / n.  So, by
McDiarmid's inequality, its distance exceeds 0 with a probability of at most
exp(-18) = 1.5e-8 a tensor, whatever theta is.  An honest client has moved theta,
but up in some places and down in others of the same bin, so little of that is
left in the sums, with two classes a client as with all of them.  Fair coins have
D = mean |1/2 - theta|, inverted masks mean |1 - 2 theta|: 0.17 and 0.35 where
theta = sigmoid(N(0, 1)), and more as theta moves towards 0 and 1.  All ones have
D = 1 - mean theta.  results/poison.md has figures.

The bound asks nothing of the other clients.  So each mask is judged as it
arrives, any number of attackers can be left out, and no honest client is left
out for being unlike the others.  Where every mask of a round is left out, the
round changes nothing.

Training that moves every theta in one direction needs a larger bound: a strong
`fedpm.regularizer` does, 10 but not 1, and so does a very large learning rate.

What is not done, and why:
- The median of K bits is the majority's vote, and a trimmed mean is close to it.
  Either loses the frequency that the Beta update estimates.
- Agreement between masks tells iid clients from those with wrong labels.  But
  honest clients with two classes each agree no more than those, and colluders
  agree most of all.
- In the plain sum of (m_i - theta_i)^2 an attacker pays for bits that hurt with
  others that are surer than theta.  Such debts do not cancel in bins.

What gets through: a mask that has the frequencies of theta in every bin of every
tensor, and is wrong only in WHICH bits are set, such as one that was trained on
wrong labels; (max_distance + 5 / sqrt(n)) / mean |1 - 2 theta| of a tensor's bits
inverted; tensors of 25 bits and less, which are not judged.
"""

import math
from collections.abc import Callable

import numpy as np

from fedpm_jax.codecs import base
from fedpm_jax.protocol.method import Method

_BINS = 16
_BIN = base.THETA_SCALE // _BINS
_CHANCE = 5.0  # 5 / sqrt(n) is what chance explains in a tensor of n bits


def check(method: Method, max_distance: float) -> None:
  """ValueError where a bound is set for masks that are not drawn from theta.

  Args:
    method: of the run.
    max_distance: 0 if there is no bound.
  """
  compressor = method.compressor
  drawn = compressor.mask_is_dithered and method.algorithm.payload == 'theta'
  if max_distance and not drawn:
    raise ValueError(
      f'config.robust.max_distance = {max_distance} is for masks that are drawn'
      " from theta and sent as they are, those of the compressor 'bernoulli':"
      ' leave it at 0.'
    )


def distance_from(
  q: np.ndarray, sizes: tuple[int, ...]
) -> Callable[[np.ndarray], float]:
  """The distance of masks from a theta.

  Args:
    q: uint16 `[d]`, theta = q / 65536, what the round started from.
    sizes: of the tensors, in order.

  Returns:
    (symbols, packed uint8 `[ceil(d / 8)]`) -> distance, in [0, 1].
  """
  bins = base.split((q // _BIN).astype(np.uint8), sizes)
  # Sums of whole numbers below 2^53, which a float64 holds exactly.
  expected = [
    np.bincount(b, weights=part, minlength=_BINS).astype(np.int64)
    for b, part in zip(bins, base.split(q, sizes), strict=True)
  ]

  def distance(symbols: np.ndarray) -> float:
    mask = np.unpackbits(symbols, count=q.size).view(np.bool_)
    farthest = 0.0
    for part, b, of_theta in zip(
      base.split(mask, sizes), bins, expected, strict=True
    ):
      ones = np.bincount(b[part], minlength=_BINS)
      apart = int(np.abs(base.THETA_SCALE * ones - of_theta).sum())
      beyond = apart / (base.THETA_SCALE * part.size)
      farthest = max(farthest, beyond - _CHANCE / math.sqrt(part.size))
    return farthest

  return distance


def account(
  left_out: dict[int, float], count: int, max_distance: float, round_idx: int
) -> str:
  """A line about the clients that a round has left out.

  Args:
    left_out: their ids, and the distances of their masks.
    count: K, how many clients the round has.
    max_distance: the bound.
    round_idx: 0-based.
  """
  each = [f'{client} ({apart:.3f})' for client, apart in left_out.items()]
  nobody = ''
  if len(left_out) == count:
    nobody = (
      ' Nobody is left, so the round changes nothing: raise the bound if these'
      ' clients are honest.'
    )
  return (
    f'Round {round_idx + 1}: masks farther from theta than'
    f' config.robust.max_distance = {max_distance} count for nothing, those of'
    f' clients {", ".join(each)}.{nobody}'
  )
