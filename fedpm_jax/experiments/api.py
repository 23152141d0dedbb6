"""`fp.config`, which a notebook starts with."""

from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments import config_files
from fedpm_jax.experiments.config import Config


def config(name: str = '') -> Config:
  """A configuration to change at will.

  Objects that a file hands over (`get_parts`) are no part of it.

  Args:
    name: a file in configs/ by its name, such as 'digits' or 'methods:drive',
      or the path of one's own; empty for the defaults.

  Raises:
    ValueError: there is no such file; it lists the names.
  """
  return config_files.read(name).config if name else configs.default()
