"""Recipes: switches that belong together, by name, for files of configurations.

`--config=cifar10` takes our choice, `--config=cifar10:official` what the
authors' code does.
"""

import math
from typing import Any

from fedpm_jax.experiments.config import Config

RECIPES: dict[str, dict[str, Any]] = {
  # The weights' scale of the paper's text, and a price for leaving the server's
  # theta.  With CONV-6 on a part of CIFAR-10: 4 points more of accuracy than
  # with e and no price, at 39 % of the bits up and 51 % of those down
  # (docs/results.md, "Fewer bits").  At full size it has not been run.
  'ours': {'weights.gain': math.sqrt(2), 'fedpm.bit_price': 16.0},
  # https://github.com/BerivanIsik/sparse-random-networks: the gradient has one
  # more factor theta, a client keeps Adam's state, masks are {.01, .99}.
  'official': {
    'fedpm.estimator': 'official',
    'fedpm.persistent_optimizer': True,
    'fedpm.soft_counts': True,
    'weights.gain': math.e,
  },
}


def apply(config: Config, recipe: str) -> Config:
  """The configuration with the switches of a recipe, which it changes.

  Raises:
    ValueError: there is no such recipe; it lists them.
  """
  if recipe not in RECIPES:
    raise ValueError(
      f'A recipe is one of {sorted(RECIPES)}, got {recipe!r}: --config=NAME:RECIPE.'
    )
  config.update_from_flattened_dict(RECIPES[recipe])
  return config
