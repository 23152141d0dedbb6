"""The configuration of the package's defaults, for benchmarks that change it."""

import fedpm_jax as fp


def get_config():
  return fp.config()
