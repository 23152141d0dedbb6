"""Recipes: switches that belong together, by name, for files of configurations.

`--config=cifar10` takes our choice, `--config=cifar10:official` what the
authors' code does.
"""

from typing import Any

from fedpm_jax.experiments.config import Config

RECIPES: dict[str, dict[str, Any]] = {
  'ours': {},
  # https://github.com/BerivanIsik/sparse-random-networks: the gradient has one
  # more factor theta, a client keeps Adam's state, masks are {.01, .99}.
  'official': {
    'fedpm.estimator': 'official',
    'fedpm.persistent_optimizer': True,
    'fedpm.soft_counts': True,
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
