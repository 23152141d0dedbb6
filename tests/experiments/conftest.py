"""A whole run that tests look at."""

import pytest
from whole_runs import small

import fedpm_jax as fp


@pytest.fixture(scope='session')
def whole(tmp_path_factory):
  """A run from beginning to end, without an accident."""
  workdir = tmp_path_factory.mktemp('whole') / 'run'
  summary = fp.train(small(), workdir)
  return workdir, summary
