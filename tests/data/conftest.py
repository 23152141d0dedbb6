"""A data set that a test may spoil, and a home of its own."""

import shutil

import prepared_toy
import pytest


@pytest.fixture
def home(tmp_path, monkeypatch):
  """A home of its own: the user's cache is neither read nor written."""
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  return tmp_path / 'home'


@pytest.fixture(scope='session')
def prepared(tmp_path_factory):
  """A TFDS directory with the data set toy/1.0.0."""
  root = tmp_path_factory.mktemp('tfds')
  prepared_toy.prepare(root)
  return root


@pytest.fixture
def root(prepared, tmp_path):
  """A copy that a test may spoil."""
  shutil.copytree(prepared / 'toy', tmp_path / 'data' / 'toy')
  return tmp_path / 'data'
