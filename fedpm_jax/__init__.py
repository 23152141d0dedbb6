"""Federated learning by random masks, at measured bit rates, in JAX.

`fedpm_jax.train` runs an experiment, `fedpm_jax.artifact.load` opens its model;
README.md says where the rest is.
"""

from fedpm_jax.version import __version__

__all__ = ['__version__']
