"""Randomised response: a mask whose bits the client flips with some chance.

The client draws its mask m ~ Bernoulli(theta_k) as `bernoulli` does and flips
each bit with probability f, with random numbers that it keeps to itself.  A one
arrives with probability f + (1 - 2 f) theta_k, so the server takes

    (count - K f) / (1 - 2 f)

for the number of ones among the K masks (`protocol.aggregate`).  This has the
mean of the true count and lies anywhere in [-K f, K (1 - f)] / (1 - 2 f).  The
alpha and beta of FedPM are then sums of such estimates.  They may be negative,
but their sum is what it always was, so theta = (alpha - 1) / (alpha + beta - 2)
is finite, and it is clipped to [theta_clip, 1 - theta_clip] as ever.  The clip
is biased towards 1/2; alpha and beta themselves are not clipped, so what they
add up over rounds without a reset of the prior has no bias.

f = flips / 65536, with `flips` rounded up, so that the exact

    epsilon_bit = log((1 - f) / f)

is at most the option `epsilon`, and below 5 by less than 0.003.  Whatever two
theta a client may have at a position, the probabilities of the bit that it
sends there differ at most by the factor exp(epsilon_bit).

What this does NOT give:

- Epsilon is of ONE bit and ONE round.  A message has d bits that all depend on
  the same data.  By basic composition a whole message has d * epsilon, 458,698
  epsilon for the default network: no meaningful guarantee.
- Over rounds it adds up, as `simulation.privacy` works out.  That is the privacy
  of one position, given what the server broadcast.  Broadcasts depend on all
  bits, those of the other positions too.
- The Bernoulli draw hides something by itself, but theta_k may lie anywhere in
  [1, 65535] / 65536.  Only the server clips it, so the draw alone bounds little
  and is not counted.
- Who knows a client's key undoes its flips.  Here all keys follow from the
  experiment's seed, which a server has: this simulates the accuracy and the
  bits.  `fedpm_jax.federation` asks for `wire.private_randomness`, so that the
  client draws the key of `compress` from its operating system.  `prng.dithers`,
  which draws the bits from that key, is not made for cryptography.
- The metrics `train/*` and `client_accuracy_*` of a simulation come from the
  clients directly, and nothing hides them.

Use the uplink 'per_level', which finds out the frequency f + (1 - 2 f) theta of
the ones at each level of theta, or 'frequency', 'per_tensor' or 'bitpack'.
'prior' takes theta itself for that frequency and 'dither' would tell the server
the random numbers, so both are refused.

Reference: Warner, "Randomized response: a survey technique for eliminating
evasive answer bias", Journal of the American Statistical Association 60, 1965.
"""

import math

import jax

from fedpm_jax import masks
from fedpm_jax.compressors import base
from fedpm_jax.prng import dithers

# Below, hardly anything arrives but noise; above, a few flips in 65536 bits are
# too coarse a grid of epsilons.
EPSILONS = (0.001, 10.0)


def randomised_response(
  layout: masks.Layout, *, epsilon: float = 2.0
) -> base.Compressor:
  """update q uint16 `[d]` -> symbols bool `[d]`, flipped.

  Args:
    layout: of the network.
    epsilon: of local differential privacy, for each bit and round, in [0.001,
      10]; a bit is flipped with probability 1 / (1 + exp(epsilon)).

  Raises:
    ValueError: `epsilon` is out of its range.
  """
  low, high = EPSILONS
  if not low <= epsilon <= high:
    raise ValueError(
      f'randomised_response: epsilon must lie in [{low}, {high:g}], got'
      f" {epsilon}. Without privacy, use the compressor 'bernoulli'."
    )
  flips = math.ceil(masks.SCALE / (1 + math.exp(epsilon)))

  def compress(
    key: jax.Array, update: jax.Array, payload: jax.Array
  ) -> jax.Array:
    del payload
    flip_key = jax.random.fold_in(key, 1)
    flipped = dithers.bits16(flip_key, update.size) < flips
    return masks.sample(key, update) ^ flipped

  return base.Compressor(
    compress,
    base.as_sent,
    update='theta',
    aggregated='mask',
    symbols='mask',
    sizes=layout.sizes,
    flips=flips,
  )


def epsilon_of(flips: int) -> float:
  """The privacy of one bit that flips with probability flips / 65536."""
  return math.log((masks.SCALE - flips) / flips)
