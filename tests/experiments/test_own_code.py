"""Code of one's own: the same in every process, another when it changes."""

import functools
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import linen as nn

from fedpm_jax.experiments import own_parts


def make(source):
  """A function `f` of a source that no file has."""
  names = {}
  exec(source, names)
  return names['f']


def factory(constant):
  def f(x):
    return constant * x

  return f


def with_default(x, *, spread=0.01):
  return spread * x


class Bound:
  def one(self, x):
    return x

  def other(self, x):
    return -x


class Scaled(nn.Module):
  by: float

  def __call__(self, x):
    return self.by * x


def module(body):
  """A Flax module of the same name and fields, with another `__call__`."""
  source = f'class Own(nn.Module):\n  def __call__(self, x):\n    return {body}'
  names = {'nn': nn, '__name__': __name__}
  exec(source, names)
  return names['Own']()


def alike():
  """Another function of the same name and text."""

  def with_default(x, *, spread=0.01):
    return spread * x

  return with_default


@pytest.mark.parametrize(
  ('one', 'other'),
  [
    (factory(1), factory(2)),
    (factory(np.zeros(3)), factory(np.ones(3))),
    (functools.partial(with_default, spread=1), with_default),
    (make('def f(x): return x + 1'), make('def f(x): return x + 2')),
    (make('def f(x, y=1): return x'), make('def f(x, y=2): return x')),
    (
      make('def f(x): return [y + 1 for y in x]'),
      make('def f(x): return [y - 1 for y in x]'),
    ),
    ({'a': factory(1)}, {'a': factory(2)}),
    ((factory(1), 3), (factory(1), 4)),
    (jax.jit(factory(1)), jax.jit(factory(2))),
    (Bound().one, Bound().other),
    (module('x + 1'), module('x - 1')),
    (Scaled(1.0), Scaled(2.0)),
  ],
)
def test_other_code_or_constants_are_told_apart(one, other):
  assert own_parts.digest(one) != own_parts.digest(other)


def test_the_same_again_is_the_same():
  assert own_parts.digest(factory(3)) == own_parts.digest(factory(3))
  assert own_parts.digest(alike()) == own_parts.digest(alike())
  assert own_parts.digest(Scaled(1.0)) == own_parts.digest(Scaled(1.0))
  assert own_parts.digest(module('x')) == own_parts.digest(module('x'))
  same = 'def f(x): return x + 1'
  assert own_parts.digest(make(same)) == own_parts.digest(make(same))


def test_a_function_in_its_own_closure_ends():
  def f(x):
    return f(x - 1) if x else 0

  assert own_parts.digest(f) == own_parts.digest(f)


PROGRAM = """
from fedpm_jax.compressors import levels, terngrad, eden
from fedpm_jax.algorithms import fedpm
from fedpm_jax.experiments import own_parts
print([own_parts.digest(x) for x in (terngrad.terngrad, eden.eden, fedpm.fedpm)])
"""


def test_digests_are_the_same_in_every_process():
  found = {
    subprocess.run(
      [sys.executable, '-c', PROGRAM],
      capture_output=True,
      check=True,
      env={'PYTHONHASHSEED': seed, 'PATH': '/usr/bin', 'HOME': '/tmp'},
    ).stdout
    for seed in ('1', '2')
  }
  assert len(found) == 1
