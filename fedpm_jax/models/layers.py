"""The layers of Flax, computed by our lowerings.

A module of one's own calls `nn.Conv`, which is XLA's convolution.  Inside of
`lowered` it has the same parameters and, up to rounding, the same result, but is
computed as `models.lowering` and `models.patches` say.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
from flax import linen as nn
from flax.linen import dtypes, linear

from fedpm_jax.models import lowering as lowerings
from fedpm_jax.models import patches


@contextlib.contextmanager
def lowered(lowering: str) -> Iterator[None]:
  """Computes each `nn.Conv` that is applied inside by a lowering.

  Args:
    lowering: 'auto' or one of `lowerings.LOWERINGS`.
  """

  def conv(next_fun, args, kwargs, context):
    layer = context.module
    is_conv = type(layer) is nn.Conv and context.method_name == '__call__'
    if is_conv and len(args) == 1 and not kwargs and _is_known(layer, args[0]):
      return _conv(layer, args[0], lowering)
    return next_fun(*args, **kwargs)

  if lowerings.resolve(lowering) == 'lax':
    yield
    return
  with nn.intercept_methods(conv):
    yield


def _is_known(layer: nn.Conv, x: jax.Array) -> bool:
  """Whether this is a convolution of images and nothing more."""
  size = layer.kernel_size
  return (
    not isinstance(size, int)
    and len(size) == 2
    and x.ndim == 4
    and layer.padding not in ('CIRCULAR', 'REFLECT')
    and _pair(layer.input_dilation) == (1, 1)
    and layer.mask is None
    and layer.precision is None
    and layer.promote_dtype is dtypes.promote_dtype
    and layer.conv_general_dilated is None
    and layer.conv_general_dilated_cls is None
    and layer.has_variable('params', 'kernel')
  )


def _conv(layer: nn.Conv, x: jax.Array, lowering: str) -> jax.Array:
  """What the layer's own `__call__` returns."""
  kernel = layer.get_variable('params', 'kernel')
  bias = layer.get_variable('params', 'bias') if layer.use_bias else None
  promoted: Any = layer.promote_dtype(x, kernel, bias, dtype=layer.dtype)
  x, kernel, bias = promoted
  padding: Any = linear.canonicalize_padding(layer.padding, 2)
  y = patches.convolve(
    x,
    kernel,
    strides=_pair(layer.strides),
    padding=padding,
    dilation=_pair(layer.kernel_dilation),
    groups=layer.feature_group_count,
    lowering=lowering,
  )
  return y if bias is None else y + bias.reshape(1, 1, 1, -1)


def _pair(value: Any) -> tuple[int, int]:
  """Flax writes (1, 1) as None, 1 or (1, 1)."""
  if value is None or isinstance(value, int):
    return value or 1, value or 1
  rows, columns = value
  return rows, columns
