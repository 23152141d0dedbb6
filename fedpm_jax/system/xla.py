"""What XLA's CPU backend has to be told: what to compute once.

That backend fuses an expression into each of its uses, and then computes it
again in every use.  Over odd shapes such code is not vector code either.  So a
step of training is much faster where each value that is used twice is written
to memory once.  `computed_once` marks such values with an optimization barrier,
and `compiler_options` keeps these barriers until fusion is done.

The GPU backend makes this choice well by itself.  There a barrier would only
send arrays through memory that it keeps in registers, so both functions do
nothing on a GPU.
"""

from typing import TypeVar

import jax
from jax import lax

_Tree = TypeVar('_Tree')


def computed_once(values: _Tree) -> _Tree:
  """The same values; a CPU computes them once, before anything uses them.

  Args:
    values: an array, or a tree of arrays.
  """
  if jax.default_backend() == 'cpu':
    return lax.optimization_barrier(values)
  return values


def compiler_options(backend: str | None = None) -> dict[str, str]:
  """Options for the outermost `jax.jit(..., compiler_options=...)`.

  On a CPU, XLA removes the optimization barriers of a program before it fuses
  its operations, and then computes again what the barriers should keep.  With
  this option they stay until fusion is done.  Winograd is 1.4 times faster with
  it, and the frozen weights and flat gradients (`fedpm_jax.masks`) need it too;
  no result changes.  The option is undocumented; where it is unknown, it does
  nothing.

  Args:
    backend: 'cpu', 'gpu' or 'tpu'; None is JAX's default backend.

  Returns:
    Names and values of options; empty unless the backend is 'cpu'.
  """
  if (backend or jax.default_backend()) == 'cpu':
    return {'xla_disable_hlo_passes': 'cse_barrier_expander'}
  return {}
