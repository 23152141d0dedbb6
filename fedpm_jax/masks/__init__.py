"""Masks over frozen random weights: layouts, theta, sampling, gradients.

A network of d parameters is never stored.  Its weights are a pure function of
(seed, tensor path, shape).  What is learned is a probability theta in (0, 1)
for each weight, and what a client sends is a mask m ~ Bernoulli(theta).  Models
know nothing of this: `params = unravel(layout, weights * mask)`.

Dimensions: d maskable parameters, L tensors.
"""

from fedpm_jax.masks.estimators import ESTIMATORS, scores_gradient
from fedpm_jax.masks.frozen import WEIGHTS, weights
from fedpm_jax.masks.layout import (
  Layout,
  concatenated,
  layout_of,
  ravel,
  split,
  unravel,
)
from fedpm_jax.masks.theta import (
  Q_MAX,
  Q_MIN,
  SCALE,
  quantise,
  sample,
  scores_of,
  theta_of,
)

__all__ = [
  'ESTIMATORS',
  'Q_MAX',
  'Q_MIN',
  'SCALE',
  'WEIGHTS',
  'Layout',
  'concatenated',
  'layout_of',
  'quantise',
  'ravel',
  'sample',
  'scores_gradient',
  'scores_of',
  'split',
  'theta_of',
  'unravel',
  'weights',
]
