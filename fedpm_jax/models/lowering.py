"""3x3 convolution: one signature, several lowerings; others: `models.patches`.

A lowering is a way to compute the convolution.  The result is the same up to
rounding; only the speed differs.  A lowering is chosen by name, and 'auto' is
the fastest one known for the backend:

  lax       `lax.conv_general_dilated`.  With one kernel per client, under vmap,
            it becomes a grouped convolution; inside a loop on a CPU it is ten
            times slower than im2col.
  im2col    nine shifted copies and one matrix product; no convolution left.
  mixed     lax, but im2col where cuDNN is slow: few channels or few pixels.
  winograd  a quarter of the multiplications; see `models.winograd`.

Dimensions: B batch, H height, W width, C channels in, O channels out.
"""

import jax
import jax.numpy as jnp
from jax import lax

from fedpm_jax.models import activations, matrices, winograd

LOWERINGS = ('lax', 'im2col', 'mixed', 'winograd')
# The entries for cpu and gpu were measured (benchmarks/results).  The one for
# tpu was not: im2col is the safe choice, because it turns one kernel per client
# into a batched matmul.
FASTEST = {'cpu': 'winograd', 'gpu': 'mixed', 'tpu': 'im2col'}
# Up to these sizes `mixed` takes im2col.  cuDNN pads 3 channels to 8, in passes
# of their own.  In 4x4 images a third of a convolution's products is with the
# padding around the image.
_FEW_CHANNELS, _FEW_PIXELS = 4, 16
# With fewer channels the transforms cost more than the products save.
WINOGRAD_CHANNELS = 8


def resolve(
  lowering: str, backend: str | None = None, *, dtype: str = 'float32'
) -> str:
  """Turns 'auto' into the name of a lowering.

  Args:
    lowering: 'auto' or one of LOWERINGS.
    backend: 'cpu', 'gpu' or 'tpu'; None is JAX's default backend.
    dtype: the type of the activations; Winograd's sums cancel too much for
      bfloat16.

  Returns:
    One of LOWERINGS.

  Raises:
    ValueError: the name is unknown, or Winograd is asked for in another type
      than float32.
  """
  if lowering == 'auto':
    backend = backend or jax.default_backend()
    if backend not in FASTEST:
      raise ValueError(f'backend: got {backend!r}, expected {list(FASTEST)}')
    fastest = FASTEST[backend]
    rounds_too_much = fastest == 'winograd' and dtype != 'float32'
    return 'im2col' if rounds_too_much else fastest
  if lowering == 'winograd' and dtype != 'float32':
    raise ValueError(
      f"lowering: got 'winograd' with {dtype}, expected float32, or 'im2col' or"
      " 'lax'."
    )
  if lowering not in LOWERINGS:
    expected = ['auto', *LOWERINGS]
    raise ValueError(f'lowering: got {lowering!r}, expected one of {expected}')
  return lowering


def choose(lowering: str, image_shape: tuple[int, ...]) -> str:
  """One of 'lax', 'im2col' and 'winograd' for images of a shape.

  Args:
    lowering: 'auto' or one of LOWERINGS.
    image_shape: [B, H, W, C].
  """
  how = resolve(lowering)
  if how != 'mixed':
    return how
  _, height, width, channels = image_shape
  few = channels <= _FEW_CHANNELS or height * width <= _FEW_PIXELS
  return 'im2col' if few else 'lax'


def conv3x3(x: jax.Array, kernel: jax.Array, *, lowering: str) -> jax.Array:
  """3x3 convolution, stride 1, same padding.

  Args:
    x: [B, H, W, C].
    kernel: [3, 3, C, O].
    lowering: 'auto' or one of LOWERINGS.

  Returns:
    [B, H, W, O].

  Raises:
    ValueError: the shapes do not fit, or the lowering is unknown.
  """
  if x.ndim != 4 or kernel.shape[:3] != (3, 3, x.shape[-1]):
    raise ValueError(
      f'3x3 convolution: got images {x.shape} and a kernel {kernel.shape}, '
      'expected [B, H, W, C] and [3, 3, C, O]'
    )
  how = choose(lowering, x.shape)
  if how == 'lax':
    return lax.conv_general_dilated(
      x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
  if how == 'im2col':
    return _dot(_neighbourhoods(x), kernel)
  return winograd.from_tiles(_convolved_tiles(x, kernel), *x.shape[1:3])


def conv_block(
  x: jax.Array,
  kernel: jax.Array,
  bias: jax.Array,
  *,
  pool: bool,
  lowering: str,
) -> jax.Array:
  """Convolution, bias, ReLU and, if asked for, a 2x2 max pool.

  The pool comes before bias and ReLU, because max commutes with both and leaves
  them a quarter of the work.

  Args:
    x: [B, H, W, C].
    kernel: [3, 3, C, O].
    bias: [O].
    pool: whether to halve height and width, rounding down.
    lowering: 'auto' or one of LOWERINGS.

  Returns:
    [B, H, W, O] or [B, H // 2, W // 2, O].
  """
  if resolve(lowering) != 'winograd':
    y = conv3x3(x, kernel, lowering=lowering)
    if not pool:
      return activations.bias_relu(y, bias)
    batch, height, width, channels = y.shape
    y = activations.pool_bias_relu(activations.windows2x2(y), bias)
    return y.reshape(batch, height // 2, width // 2, channels)
  # From here to the next convolution the image stays in tiles: the change back
  # to images below cancels the change to tiles there, and XLA drops both.
  height, width = x.shape[1:3]
  y = _convolved_tiles(x, kernel)
  if pool:
    # A 2x2 window never crosses the border of a tile, whose size m is even: the
    # pool turns tiles of m x m into tiles of m/2 x m/2.
    half = y.shape[0] // 2
    y = y.reshape(half, 2, half, 2, *y.shape[2:])
    y = activations.pool_bias_relu(y, bias)
    height, width = height // 2, width // 2
  else:
    y = activations.bias_relu(y, bias)
  return winograd.from_tiles(y, height, width)


def conv_pair(
  x: jax.Array,
  parameters: list[tuple[jax.Array, jax.Array]],
  *,
  lowering: str,
) -> jax.Array:
  """Two convolutions with bias and ReLU, and a 2x2 max pool after them.

  Winograd makes many passes over a batch.  Where the batch is large, these wait
  for memory.  The images are then computed in groups, one after another, with
  the same result.

  Args:
    x: [B, H, W, C].
    parameters: two pairs, kernel [3, 3, C, O] and bias [O] of a convolution.
    lowering: 'auto' or one of LOWERINGS.

  Returns:
    [B, H // 2, W // 2, O].
  """
  first, second = parameters

  def pair(x: jax.Array) -> jax.Array:
    x = conv_block(x, *first, pool=False, lowering=lowering)
    return conv_block(x, *second, pool=True, lowering=lowering)

  # The second convolution has more channels, so it decides about the groups.
  group = len(x)
  if resolve(lowering) == 'winograd':
    group = winograd.group_size(x.shape, second[0].shape)
  if group == len(x):
    return pair(x)
  y = lax.map(pair, x.reshape(-1, group, *x.shape[1:]))
  return y.reshape(-1, *y.shape[2:])


def _convolved_tiles(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """[B, H, W, C] -> the convolution as tiles [m, m, P, Q, B, O]."""
  tile = winograd.tile_size(*x.shape[1:3])
  # With few channels im2col is faster, but its result is cut into tiles too,
  # because the next convolution wants tiles.
  if x.shape[-1] < WINOGRAD_CHANNELS:
    return _dot(winograd.to_tiles(_neighbourhoods(x), tile), kernel)
  return winograd.convolve(winograd.to_tiles(x, tile), kernel)


def _neighbourhoods(x: jax.Array) -> jax.Array:
  """[B, H, W, C] -> [B, H, W, 9 C], the 3x3 neighbourhood of every pixel."""
  height, width = x.shape[1:3]
  x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  shifted = [
    x[:, i : i + height, j : j + width, :] for i in range(3) for j in range(3)
  ]
  return jnp.concatenate(shifted, -1)


def _dot(neighbourhoods: jax.Array, kernel: jax.Array) -> jax.Array:
  """[..., 9 C] x [3, 3, C, O] -> [..., O]."""
  # The batch and all pixels become the rows of one large matrix product.
  inputs, outputs = neighbourhoods.shape[-1], kernel.shape[-1]
  rows = neighbourhoods.reshape(-1, inputs)
  y = matrices.product(rows, kernel.reshape(inputs, outputs))
  return y.reshape(*neighbourhoods.shape[:-1], outputs)
