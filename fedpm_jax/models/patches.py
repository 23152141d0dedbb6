"""Any two-dimensional convolution, as products of matrices where that is faster.

`models.lowering` computes 3x3 convolutions of stride 1 with same padding.  Here
are all others, under the same names: `lax` is XLA's own convolution, and the
rest collect the patches of an image and multiply them by the kernel, because
one kernel for each client turns XLA's convolution into a grouped one, which is
slow in a loop on a CPU.  No lowering changes a result by more than rounding.

Dimensions: B batch, H height, W width, C channels in, O channels out, G groups.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from fedpm_jax.models import lowering as lowerings
from fedpm_jax.models import matrices, winograd

_SAME = ((1, 1), (1, 1))  # the padding of a 3x3 convolution


def convolve(
  x: jax.Array,
  kernel: jax.Array,
  *,
  strides: tuple[int, int],
  padding: str | Sequence[tuple[int, int]],
  dilation: tuple[int, int],
  groups: int,
  lowering: str,
) -> jax.Array:
  """`lax.conv_general_dilated` of images.

  Args:
    x: [B, H, W, C].
    kernel: [height, width, C / G, O].
    strides: of the rows and columns of the result.
    padding: 'SAME', 'VALID', or zeros (before, after) rows and columns.
    dilation: of the kernel.
    groups: G.
    lowering: 'auto' or one of `lowerings.LOWERINGS`.

  Returns:
    [B, H', W', O].
  """
  spans = [
    (n - 1) * d + 1 for n, d in zip(kernel.shape[:2], dilation, strict=True)
  ]
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(x.shape[1:3], spans, strides, padding)
  padding = tuple((int(a), int(b)) for a, b in padding)
  how = lowerings.choose(lowering, x.shape)
  if how == 'winograd' and x.dtype != jnp.float32:
    how = 'im2col'  # Winograd's sums cancel too much for a shorter type.
  is_plain = strides == dilation == (1, 1) and groups == 1
  if is_plain and kernel.shape[:2] == (3, 3) and padding == _SAME:
    return _conv3x3(x, kernel, how)
  if how == 'lax':
    return lax.conv_general_dilated(
      x,
      kernel,
      strides,
      padding,
      rhs_dilation=dilation,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      feature_group_count=groups,
    )
  x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
  shifted = _shifted(x, spans, strides, dilation)
  if groups == 1:
    return _product(shifted, kernel)
  if groups == x.shape[-1]:
    return _depthwise(shifted, kernel)
  return _grouped(shifted, kernel, groups)


def _conv3x3(x: jax.Array, kernel: jax.Array, how: str) -> jax.Array:
  """In groups of images where Winograd would wait for memory."""
  conv = lambda x: lowerings.conv3x3(x, kernel, lowering=how)
  group = len(x)
  if how == 'winograd' and x.shape[-1] >= lowerings.WINOGRAD_CHANNELS:
    group = winograd.group_size(x.shape, kernel.shape)
  if group == len(x):
    return conv(x)
  y = lax.map(conv, x.reshape(-1, group, *x.shape[1:]))
  return y.reshape(-1, *y.shape[2:])


def _shifted(
  x: jax.Array,
  spans: Sequence[int],
  strides: tuple[int, int],
  dilation: tuple[int, int],
) -> list[jax.Array]:
  """What each place of a kernel sees, [B, H', W', C] each, row by row."""
  # Just behind the first pixel of the last window.
  ends = [
    (n - span) // stride * stride + 1
    for n, span, stride in zip(x.shape[1:3], spans, strides, strict=True)
  ]
  rows, columns = (
    range(0, span, step) for span, step in zip(spans, dilation, strict=True)
  )
  return [
    x[:, i : i + ends[0] : strides[0], j : j + ends[1] : strides[1], :]
    for i in rows
    for j in columns
  ]


def _product(shifted: list[jax.Array], kernel: jax.Array) -> jax.Array:
  """One large product: its rows are all pixels of all images."""
  patches = shifted[0] if len(shifted) == 1 else jnp.concatenate(shifted, -1)
  rows = patches.reshape(-1, patches.shape[-1])
  y = matrices.product(rows, kernel.reshape(rows.shape[-1], -1))
  return y.reshape(*patches.shape[:-1], -1)


def _depthwise(shifted: list[jax.Array], kernel: jax.Array) -> jax.Array:
  """A sum of products, elementwise: every channel has kernels of its own."""
  channels, outputs = shifted[0].shape[-1], kernel.shape[-1]
  of_place = kernel.reshape(len(shifted), channels, outputs // channels)
  y = sum(
    part[..., None] * lax.expand_dims(weights, range(3))
    for part, weights in zip(shifted, of_place, strict=True)
  )
  return jnp.reshape(y, (*shifted[0].shape[:-1], outputs))


def _grouped(
  shifted: list[jax.Array], kernel: jax.Array, groups: int
) -> jax.Array:
  """A product for each group."""
  *image, channels = shifted[0].shape
  patches = jnp.stack(shifted, -2).reshape(
    -1, len(shifted), groups, channels // groups
  )
  kernel = kernel.reshape(len(shifted), channels // groups, groups, -1)
  y = jnp.einsum('nkgc,kcgo->ngo', patches, kernel)
  return y.reshape(*image, -1)
