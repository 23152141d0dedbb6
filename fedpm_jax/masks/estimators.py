"""Straight-through estimators: gradients through the sampling of a mask."""

from collections.abc import Callable
from typing import Any

import jax

from fedpm_jax.system import xla

# theta -> the factor that stands for d mask / d scores, of the same shape
ESTIMATORS: dict[str, Callable[[jax.Array], jax.Array]] = {
  # Bengio et al. 2013, Zhou et al. 2019 and the FedPM paper: the sampling
  # passes the gradient on as it is; what remains is d theta / d scores.
  'identity': lambda theta: theta * (1 - theta),
  # The official code multiplies by theta once more.
  'official': lambda theta: theta * theta * (1 - theta),
}


def scores_gradient(
  params_gradient: Any,
  weights: Any,
  theta: Any,
  *,
  estimator: str = 'identity',
) -> Any:
  """The gradient of the loss by the scores, straight through the sampling.

  The network saw params = weights * mask with mask ~ Bernoulli(theta) and
  theta = sigmoid(scores), so

      d loss / d scores = d loss / d params * weights * estimator(theta).

  Args:
    params_gradient: `[d]`, or a tree of tensors; the next two are alike.
    weights: the frozen weights.
    theta: probabilities, between 0 and 1.
    estimator: a key of `ESTIMATORS`.

  Returns:
    float32, of the same shape.
  """

  def of_tensor(
    gradient: jax.Array, weights: jax.Array, theta: jax.Array
  ) -> jax.Array:
    # Without the barrier XLA would compute it again in each of the optimiser's
    # updates that need it.
    return xla.computed_once(gradient * weights * ESTIMATORS[estimator](theta))

  return jax.tree.map(of_tensor, params_gradient, weights, theta)
