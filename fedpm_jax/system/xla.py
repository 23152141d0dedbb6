"""Where a CPU's compiler must not fuse.

XLA's CPU backend computes again, in every use, what it fuses into it, and loses
its vector code over odd shapes: a step of training is much faster with what is
used twice written down.  The GPU's weighs that itself, and a barrier would only
send arrays through memory that it keeps in registers.
"""

from typing import TypeVar

import jax
from jax import lax

_Tree = TypeVar('_Tree')


def computed_once(values: _Tree) -> _Tree:
  """The values; on a CPU computed once, before all that uses them."""
  if jax.default_backend() == 'cpu':
    return lax.optimization_barrier(values)
  return values


def compiler_options(backend: str | None = None) -> dict[str, str]:
  """Options for the outermost `jax.jit(..., compiler_options=...)`.

  On a CPU, XLA drops the optimization barriers of a program before it fuses its
  operations, and then computes again what they keep: with this option they stay
  until fusion is done.  Winograd is 1.4 times faster with it, and the frozen
  weights and flat gradients (`fedpm_jax.masks`) need it too; no result changes.
  The option is undocumented; where it is unknown, it does nothing.

  Args:
    backend: 'cpu', 'gpu' or 'tpu'; None is JAX's default backend.
  """
  if (backend or jax.default_backend()) == 'cpu':
    return {'xla_disable_hlo_passes': 'cse_barrier_expander'}
  return {}
