"""Strict settings for every test: two CPU devices, no silent broadcasting."""

import os
import pathlib

import hypothesis
import jax
import numpy as np
import pytest

# LLVM's vectorisers take a fifth of the time of the tests, whose data are tiny.
# Without them the numbers are those of another rounding.  Processes that tests
# start inherit this; the notebooks compile as users do.
os.environ.setdefault('XLA_FLAGS', '--xla_llvm_disable_expensive_passes=true')
jax.config.update('jax_num_cpu_devices', 2)
# Compiled programs are shared between tests, workers and the processes that
# tests start; a second run of the tests starts from them too.
CACHE = pathlib.Path(__file__).parent.parent / '.pytest_cache' / 'xla'
os.environ['JAX_COMPILATION_CACHE_DIR'] = str(CACHE)
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.2'
jax.config.update('jax_compilation_cache_dir', str(CACHE))
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)
jax.config.update('jax_numpy_rank_promotion', 'raise')

# Compilation makes the first example slow; that is no failure.
hypothesis.settings.register_profile('fedpm', deadline=None)
hypothesis.settings.load_profile('fedpm')


@pytest.fixture
def rng():
  return np.random.default_rng(0)
