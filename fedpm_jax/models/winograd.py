"""3x3 convolution by Winograd's minimal filtering, for CPUs.

Take one dimension, three taps k and two outputs.  y0 = d0 k0 + d1 k1 + d2 k2
and y1 = d1 k0 + d2 k1 + d3 k2 take six products if one multiplies them out, but

    m0 = (d0 - d2) k0                  m1 = (d1 + d2) (k0 + k1 + k2) / 2
    m3 = (d1 - d3) k2                  m2 = (d2 - d1) (k0 - k1 + k2) / 2
    y0 = m0 + m1 + m2                  y1 = m1 - m2 - m3

takes four.  Why this works: the product of two polynomials has degree 3 here,
and is known from its values at 0, 1, -1 and infinity.  So evaluate both factors
(G and A), multiply the values, and interpolate (B).  Correlation with k is the
transpose of multiplication by k, so B^T comes first and A^T last.  If * is the
elementwise product,

    y = A^T [(B^T d) * (G k)].

F(4, 3) makes four outputs from six products with the points 0, 1, -1, 2, -2
and infinity.  In two dimensions the transforms act on rows and on columns,

    Y = A^T [(B^T D B) * (G K G^T)] A,

so F(4x4, 3x3) takes 36 products for 16 outputs where the direct sum takes 144.
Summed over input channels, each of the 36 elementwise products is a matrix
product [tiles, C] x [C, O]: one batched matmul, fast on any machine.

The price is rounding: F(4, 3) multiplies by up to 8 and cancels again.  One
convolution is within 4e-6 of float64 (relative L2; a direct sum in float32 is
within 8e-7), and sums that are exactly 0 come out as noise.  In the gradient of
the kernel that would matter, because Adam makes full steps of the smallest
noise.  So entries below 2^-22 of the largest are set to 0, in every group of
images that is convolved by itself.

Activations are kept as *tiles*, [m, m, P, Q, B, C]: the pixel (a, b) of the
m x m tile (p, q) of every image.  A transform is then a weighted sum of whole
contiguous arrays, and a neighbouring tile is a shift along P or Q.

References:
  Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR
  2016, arXiv:1509.09308.  The transposed transforms of the backward pass are
  written out here because the transpose of slice-and-stack, as JAX derives it,
  pads and adds, which is slow.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedpm_jax.models import matrices

# Entries of a kernel's gradient below this fraction of the largest become 0.
ZERO_BELOW = 2.0**-22

# The memory that a group of images should take, with its transformed pixels and
# their products; see `group_size`.
_GROUP_BYTES = 5 * 2**20

# (B^T, G, A^T) of F(m, 3), for the tile sizes m = 2 and m = 4.
TRANSFORMS = {
  2: (
    np.array(
      [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], np.float32
    ),
    np.array(
      [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
      np.float32,
    ),
    np.array([[1, 1, 1, 0], [0, 1, -1, -1]], np.float32),
  ),
  4: (
    np.array(
      [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
      ],
      np.float32,
    ),
    np.array(
      [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
      ],
      np.float32,
    ),
    np.array(
      [
        [1, 1, 1, 1, 1, 0],
        [0, 1, -1, 2, -2, 0],
        [0, 1, 1, 4, 4, 0],
        [0, 1, -1, 8, -8, 1],
      ],
      np.float32,
    ),
  ),
}

# XLA would otherwise fuse a transform into its consumers and compute it several
# times.  On a CPU it removes barriers before it fuses, unless it is given
# `xla.compiler_options`; the results are the same.
_materialize = lax.optimization_barrier


def tile_size(height: int, width: int) -> int:
  """The m of F(m x m, 3x3): 2 where a 4x4 tile would be mostly padding."""
  return 2 if max(height, width) <= 2 else 4


def group_size(
  image_shape: tuple[int, ...], kernel_shape: tuple[int, ...]
) -> int:
  """How many images are best convolved at a time.

  Args:
    image_shape: [B, H, W, C], of the whole batch.
    kernel_shape: [3, 3, C, O].

  Returns:
    A divisor of B.  It is B where the loop costs more than it saves: where
    there would be few groups, and where the transformed kernel is larger than a
    group, because every group reads it and adds to its gradient.
  """
  batch, height, width, _ = image_shape
  tile = tile_size(height, width)
  tiles = -(-height // tile) * -(-width // tile)
  inputs, outputs = kernel_shape[2:]
  of_a_product = 4 * (tile + 2) ** 2  # float32 for each of its values
  of_an_image = of_a_product * tiles * (inputs + outputs)
  fits = _GROUP_BYTES / of_an_image
  if of_a_product * inputs * outputs > _GROUP_BYTES or batch < 4 * fits:
    return batch
  # Within a factor of two of what fits, the divisor that is nearest to it.
  divisors = [size for size in range(1, batch + 1) if batch % size == 0]
  near = [size for size in divisors if fits / 2 <= size <= 2 * fits]
  return min(near, key=lambda size: abs(math.log(size / fits)), default=batch)


def to_tiles(x: jax.Array, tile: int) -> jax.Array:
  """Cuts images into tiles; the last row and column are padded with zeros.

  Args:
    x: [B, H, W, C].
    tile: m.

  Returns:
    [m, m, P, Q, B, C] with P = ceil(H / m) and Q = ceil(W / m).
  """
  batch, height, width, channels = x.shape
  rows, columns = -(-height // tile), -(-width // tile)
  bottom, right = rows * tile - height, columns * tile - width
  x = jnp.pad(x, ((0, 0), (0, bottom), (0, right), (0, 0)))
  x = x.reshape(batch, rows, tile, columns, tile, channels)
  # The place in the tile comes first, so that a transform adds whole arrays.
  return x.transpose(2, 4, 1, 3, 0, 5)


def from_tiles(tiles: jax.Array, height: int, width: int) -> jax.Array:
  """The inverse of `to_tiles`: [m, m, P, Q, B, C] -> [B, H, W, C]."""
  tile, _, rows, columns, batch, channels = tiles.shape
  x = tiles.transpose(4, 2, 0, 3, 1, 5)
  x = x.reshape(batch, rows * tile, columns * tile, channels)
  return x[:, :height, :width, :]


@jax.custom_vjp
def convolve(tiles: jax.Array, kernel: jax.Array) -> jax.Array:
  """3x3 convolution, same padding.

  Args:
    tiles: [m, m, P, Q, B, C]; pixels beyond the image must be 0.
    kernel: [3, 3, C, O].

  Returns:
    [m, m, P, Q, B, O]; pixels beyond the image are arbitrary.
  """
  return _convolve_forward(tiles, kernel)[0]


def _convolve_forward(
  tiles: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  """Y = A^T [(B^T D B) * (G K G^T)] A, and what the backward pass needs."""
  bt, g, at = TRANSFORMS[tiles.shape[0]]
  values = _input_transform(tiles, bt)
  # G K G^T of all kernels as one matrix product: with K as a vector of 9, it is
  # the Kronecker product of G and G times K.
  kernel_values = _materialize(_dense(np.kron(g, g), kernel.reshape(9, -1)))
  kernel_values = kernel_values.reshape(-1, *kernel.shape[2:])
  # t: the (m + 2)^2 values of a tile, n: all tiles of all images.
  products = jnp.einsum('tnc,tco->tno', _flatten(values), kernel_values)
  products = _materialize(products).reshape(*values.shape[:-1], -1)
  return _both_axes(at, products), (tiles, kernel_values)


def _convolve_backward(
  residuals: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """The gradients of the tiles and the kernel: every step is transposed."""
  tiles, kernel_values = residuals
  bt, g, at = TRANSFORMS[gradient.shape[0]]
  # The tiles are transformed again.  Their values are twice as large as they
  # are.  In a loop over groups of images the values would have to wait in
  # memory, and to read them there is slower than to compute the sums again.
  values = _input_transform(tiles, bt)
  d_products = _flatten(_both_axes(at.T, gradient))
  d_kernel = matrices.transposed_product(_flatten(values), d_products)
  d_kernel = _materialize(d_kernel.reshape(len(d_kernel), -1))
  d_kernel = _dense(np.kron(g, g).T, d_kernel)
  # Exact zeros have become noise, of which Adam would make full steps.
  noise = ZERO_BELOW * jnp.abs(d_kernel).max()
  d_kernel = jnp.where(jnp.abs(d_kernel) <= noise, 0, d_kernel)
  d_values = jnp.einsum('tno,tco->tnc', d_products, kernel_values)
  d_values = _materialize(d_values).reshape(values.shape)
  shape = (3, 3, values.shape[-1], gradient.shape[-1])
  return _input_transpose(d_values, bt), d_kernel.reshape(shape)


convolve.defvjp(_convolve_forward, _convolve_backward)


def _input_transform(tiles: jax.Array, bt: np.ndarray) -> jax.Array:
  """B^T D B: [m, m, P, Q, B, C] -> [m + 2, m + 2, P, Q, B, C]."""
  # D is a tile with a border of one pixel.  The border belongs to its
  # neighbours: it is the last row of the tile before and the first row of the
  # tile after.  These neighbours lie along P or Q, which is axis + 1 of an
  # unstacked array.
  for axis in (0, 1):
    *parts, last = _unstack(tiles, axis)
    before = _shift(last, axis + 1, 1)
    after = _shift(parts[0], axis + 1, -1)
    sums = _weighted_sums(bt, [before, *parts, last, after])
    tiles = _materialize(jnp.stack(sums, axis))
  return tiles


def _input_transpose(values: jax.Array, bt: np.ndarray) -> jax.Array:
  """The transpose of `_input_transform`: overlapping borders are added."""
  for axis in (1, 0):
    before, *parts, after = _weighted_sums(bt.T, _unstack(values, axis))
    # The border's gradient goes back to the neighbours whose pixels it was.
    parts[-1] += _shift(before, axis + 1, -1)
    parts[0] += _shift(after, axis + 1, 1)
    values = _materialize(jnp.stack(parts, axis))
  return values


def _both_axes(matrix: np.ndarray, x: jax.Array) -> jax.Array:
  """matrix X matrix^T over the two leading axes."""
  for axis in (0, 1):
    sums = _weighted_sums(matrix, _unstack(x, axis))
    x = _materialize(jnp.stack(sums, axis))
  return x


def _weighted_sums(
  matrix: np.ndarray, parts: list[jax.Array]
) -> list[jax.Array]:
  """matrix @ parts, written out: one sum for each row, zeros left out."""
  # A matrix product would multiply by many zeros.

  def weighted_sum(row: np.ndarray) -> jax.Array:
    terms = [float(c) * x for c, x in zip(row, parts, strict=True) if c]
    return functools.reduce(jnp.add, terms)

  return [weighted_sum(row) for row in matrix]


def _dense(matrix: np.ndarray, x: jax.Array) -> jax.Array:
  """matrix @ x, as one product."""
  return jnp.asarray(matrix) @ x


def _flatten(values: jax.Array) -> jax.Array:
  """[a, b, P, Q, B, C] -> [a * b, P * Q * B, C]."""
  a, b = values.shape[:2]
  return values.reshape(a * b, -1, values.shape[-1])


def _unstack(x: jax.Array, axis: int) -> list[jax.Array]:
  """The slices of x along an axis, without that axis."""
  return [lax.index_in_dim(x, i, axis, False) for i in range(x.shape[axis])]


def _shift(x: jax.Array, axis: int, by: int) -> jax.Array:
  """Moves x along an axis by one (1 or -1); zeros come in."""
  # A negative padding cuts off, so this is one operation.
  config = [(0, 0, 0)] * x.ndim
  config[axis] = (by, -by, 0)
  return lax.pad(x, jnp.zeros((), x.dtype), config)
