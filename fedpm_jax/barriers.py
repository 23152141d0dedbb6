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


def on_cpu(values: _Tree) -> _Tree:
  """The values; on a CPU computed once, before all that uses them."""
  if jax.default_backend() == 'cpu':
    return lax.optimization_barrier(values)
  return values
