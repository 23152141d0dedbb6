"""Edge-popup, federated: the mask of the k largest scores of every tensor.

    server: theta ~ U(0, 1)
    round t: client k:  s = theta; for every minibatch:
                            m = top k of |s|;  s <- optimiser(s, gradient of the
                            loss at weights * m, as if m were |s|)
                        sends m_k = top k of |s|
             server:    theta = mean_k m_k

Ramanujan, Wortsman, Kembhavi, Farhadi, Rastegari, "What's hidden in a randomly
weighted neural network?", CVPR 2020: the top k of a tensor's |scores|, identity
straight-through.  What the server does is FedMask's.

Deviations.  Paper: scores start Kaiming uniform; here they are shares of masks,
which is what comes from the server in every later round.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from fedpm_jax import masks
from fedpm_jax.algorithms import base, fedmask
from fedpm_jax.models.network import Network

# After a round theta has K + 1 values: equal scores are told apart by a
# position's term of this sequence, far below one client's vote.
_GOLDEN = 0.6180339887498949
_TIE = 2.0**-10


def edge_popup(
  network: Network,
  optimizer: optax.GradientTransformation,
  *,
  density: float = 0.5,
) -> base.Algorithm:
  """Federated edge-popup as the functions of an `Algorithm`.

  Args:
    network: the model and its frozen weights.
    optimizer: of the scores.
    density: k as a share of each tensor, in (0, 1).

  Raises:
    ValueError: a constant outside the range above.
  """
  if not 0 < density < 1:
    raise ValueError(f'density must lie in (0, 1), got {density}.')
  layout = network.layout
  tie = np.arange(layout.num_parameters) * _GOLDEN % 1

  def init(key):
    return masks.quantise(jax.random.uniform(key, (layout.num_parameters,)))

  return fedmask.deterministic(
    network,
    optimizer,
    init=init,
    scores_of=lambda q: masks.theta_of(q) + np.float32(_TIE) * tie.astype('f4'),
    mask_of=lambda scores: top_share(layout, jnp.abs(scores), density),
    slope=lambda scores: jnp.where(scores < 0, -1.0, 1.0),
    theta_clip=0.0,
  )


def top_share(
  layout: masks.Layout, values: jax.Array, density: float
) -> jax.Array:
  """The mask of the round(density * size) largest values of every tensor.

  Of equal values at the border all are taken.  By bisection instead of sorting,
  which is slow on every backend: values that are not negative are ordered as
  their bit patterns are.

  Args:
    layout: of the network.
    values: float32 `[d]`, not negative.
    density: share of each tensor, in (0, 1); at least one value is taken.

  Returns:
    bool `[d]`.
  """

  def of_tensor(part):
    k = max(1, round(density * part.size))
    patterns = lax.bitcast_convert_type(part, jnp.int32)

    def halve(_, bounds):
      low, high = bounds  # at least k patterns are >= low, fewer are >= high
      middle = low + (high - low) // 2
      enough = jnp.sum(patterns >= middle, dtype=jnp.int32) >= k
      low, high = (
        jnp.where(enough, middle, low),
        jnp.where(enough, high, middle),
      )
      return low, high

    top = np.int32(0x7F800001)  # above infinity
    low, _ = lax.fori_loop(0, 31, halve, (jnp.int32(0), top))
    return patterns >= low

  return masks.concatenated(
    [of_tensor(part) for part in masks.split(layout, values)]
  )
