"""Updates as they are: the compressors that lose nothing.

`identity` is FedAvg's (McMahan et al., AISTATS 2017), 32 bits a parameter.
`mask` is for methods whose clients train with the very mask they send, such as
the deterministic ones: nothing is left to draw.
"""

import jax
import numpy as np

from fedpm_jax import masks
from fedpm_jax.compressors import base


def identity(layout: masks.Layout) -> base.Compressor:
  """update float32 `[d]` -> the same; the server takes it."""
  return base.Compressor(
    _compress,
    base.as_sent,
    update='delta',
    aggregated='delta',
    symbols='float32',
    sizes=layout.sizes,
    check=_problem,
  )


def mask(layout: masks.Layout) -> base.Compressor:
  """update bool `[d]` -> the same; the server takes the bits."""
  return base.Compressor(
    _compress,
    base.as_sent,
    update='mask',
    aggregated='mask',
    symbols='mask',
    sizes=layout.sizes,
    symbols_are_the_mask=True,
  )


def _compress(
  key: jax.Array, update: jax.Array, payload: jax.Array
) -> jax.Array:
  del key, payload
  return update


def _problem(changes: np.ndarray) -> str:
  """Why no client can have sent these changes; empty where one can."""
  # Two passes and no copy, because this is all of the weights.
  largest = max(changes.max(initial=0), -changes.min(initial=0))
  if largest <= base.MAX_CHANGE:
    return ''
  return f'got a change of {largest}, expected at most {base.MAX_CHANGE}'
