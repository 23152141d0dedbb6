"""Federated learning by random masks, at measured bit rates, in JAX.

`fedpm_jax.train` runs an experiment, `protocol.model_file.load` opens its model;
README.md says where the rest is.
"""

__all__ = ['__version__']

__version__ = '0.2.0'
