"""Strict settings for every test: two CPU devices, no silent broadcasting."""

import hypothesis
import jax
import numpy as np
import pytest

jax.config.update('jax_num_cpu_devices', 2)
jax.config.update('jax_numpy_rank_promotion', 'raise')

# Compilation makes the first example slow; that is no failure.
hypothesis.settings.register_profile('fedpm', deadline=None)
hypothesis.settings.load_profile('fedpm')


@pytest.fixture
def rng():
  return np.random.default_rng(0)
