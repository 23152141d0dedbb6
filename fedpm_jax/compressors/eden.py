"""DRIVE and EDEN: a random rotation, then b bits for each rotated coordinate.

A chunk x `[n]` of the update is rotated by R = H D / sqrt(n), H a Hadamard
matrix and D random signs that both ends draw from the key.  Its coordinates are
then about normal, whatever x is, so one quantiser serves all: the centroids c
of Lloyd and Max for N(0, 1), of z = sqrt(n) Rx / ||x||.  The server rotates
back S c(z) with the scale, one float32 a chunk,

    S = ||x||^2 / <c(z), Rx>

For a uniformly random R this is unbiased, with E ||out - x||^2 / ||x||^2 ->
1 / (1 - D_b) - 1, D_b the quantiser's distortion: 0.571, 0.133, 0.036, 0.010
for b = 1, 2, 3, 4.  With b = 1 it is DRIVE: c = +-1, S = ||x||^2 / ||Rx||_1,
pi/2 - 1.  With b < 1 a share b of the coordinates, which both ends draw, is
sent, with 1 bit each, and scaled by 1 / b: (pi/2) / b - 1.

One Hadamard matrix is no uniformly random rotation: a chunk with few large
entries is not made normal.  Of (a, b, 0, 0, ...), |a| > |b|, one bit keeps a
alone, for every key.  tests/compressors measures what is left of that bias.

References: Vargaftik, Ben Basat, Portnoy, Mendelson, Ben-Itzhak, Mitzenmacher,
"DRIVE: one-bit distributed mean estimation", NeurIPS 2021; the same,
"EDEN: communication-efficient and robust distributed mean estimation for
federated learning", ICML 2022.  Deviations: chunks, since padding a whole
network to a power of two may double what is sent.  The last chunk is padded
with zeros and sent in full: at most `chunk` - 1 symbols that no parameter has,
and these are counted.  A vector below half a chunk is one smaller chunk.  For
b < 1 coordinates are left out after the rotation, not before it; their number is
fixed and their places are the same in all chunks.  Levels are entropy-coded:
1.91, 2.83, 3.77 bits for b = 2, 3, 4.
"""

import jax
import jax.numpy as jnp
import numpy as np

from fedpm_jax import masks
from fedpm_jax.compressors import base, levels
from fedpm_jax.prng import dithers

# Lloyd-Max centroids of N(0, 1) above 0, by bits; the others mirror them.
CENTROIDS = {
  1: (0.7978846,),
  2: (0.4527800, 1.5104176),
  3: (0.2450942, 0.7560053, 1.3439093, 2.1519457),
  4: (
    *(0.1283950, 0.3880483, 0.6567591, 0.9423405),
    *(1.2562312, 1.6180464, 2.0690172, 2.7325896),
  ),
}


def drive(layout: masks.Layout, *, chunk: int = 4096) -> base.Compressor:
  """DRIVE; see `eden`."""
  return eden(layout, bits=1, chunk=chunk)


def eden(
  layout: masks.Layout, *, bits: float = 1, chunk: int = 4096
) -> base.Compressor:
  """update float32 `[d]` -> symbols uint8 `[4 C + C m]`: C scales, then levels.

  Args:
    layout: of the network.
    bits: b, of a rotated coordinate: 1, 2, 3, 4, or a share in (0, 1) of the
      coordinates that are sent, with 1 bit each.
    chunk: n, a power of two.  C = ceil(d / n), and of each chunk m = n
      coordinates are sent, or round(b n) if b < 1.

  Raises:
    ValueError: a number that makes no sense.
  """
  if not (bits in CENTROIDS or 0 < bits < 1) or chunk < 1 or chunk & chunk - 1:
    raise ValueError(
      'eden: bits must be 1, 2, 3, 4 or lie in (0, 1), and chunk be a power of'
      f' two, got {bits} and {chunk}.'
    )
  d = layout.num_parameters
  chunk = min(chunk, 1 << (d - 1).bit_length())
  count = -(-d // chunk)
  keep = max(round(min(bits, 1) * chunk), 1)
  above = np.array(CENTROIDS[max(int(bits), 1)], np.float32)
  centroids = np.concatenate([-above[::-1], above])
  borders = (centroids[1:] + centroids[:-1]) / 2

  def shared(key):
    """Of both ends: D's signs, float32 [C, n], and the places sent, [m]."""
    # Drawn at once: XLA's CPU backend does not finish compiling where it may
    # fuse one hash into another.
    drawn = dithers.bits16(key, (count + 1) * chunk)
    signs = jnp.where(drawn < masks.SCALE // 2, -1.0, 1.0)[: count * chunk]
    return signs.reshape(count, chunk), jnp.argsort(drawn[-chunk:])[:keep]

  def compress(key, update, payload):
    del payload
    x = jnp.pad(update, (0, count * chunk - d)).reshape(count, chunk)
    signs, places = shared(key)
    rotated = hadamard(x * signs)
    squares = jnp.sum(x**2, axis=1)
    unit = jnp.sqrt(squares / chunk)[:, None]  # z = rotated / unit
    index = sum((rotated >= b * unit).astype(jnp.int32) for b in borders)
    along = jnp.sum(jnp.asarray(centroids)[index] * rotated, axis=1)
    # Positive unless the chunk is zero, whose scale is zero.
    scales = squares / jnp.where(along > 0, along, 1) * (chunk / keep)
    if keep < chunk:
      index = index[:, places]
    return levels.join(scales, index.reshape(-1))

  def decompress(key, symbols, payload):
    del payload
    signs, places = shared(key)
    scales, index = levels.split(symbols, count)
    values = jnp.asarray(centroids)[index].reshape(count, keep)
    values = values * scales[:, None]
    if keep < chunk:
      values = jnp.zeros((count, chunk)).at[:, places].set(values)
    return (hadamard(values) * signs).reshape(-1)[:d]

  return base.Compressor(
    compress,
    decompress,
    update='delta',
    aggregated='delta',
    symbols='levels',
    sizes=(levels.BYTES * count, count * keep),
    needs_shared_key=True,
    check=lambda symbols: levels.problem(
      symbols, count=count, alphabet=centroids.size
    ),
  )


def hadamard(rows: jax.Array) -> jax.Array:
  """The orthonormal Walsh-Hadamard transform of each row, its own inverse.

  H of n = a b is a Kronecker product, so that it takes two small matrix
  products, n (a + b) multiplications that run at full speed, in place of
  n log2 n additions that do not.

  Args:
    rows: float32 `[C, n]`, n a power of two.

  Returns:
    float32 `[C, n]`.
  """
  doublings = rows.shape[1].bit_length() - 1
  first, second = _matrix(doublings // 2), _matrix(doublings - doublings // 2)
  cells = rows.reshape(-1, len(first), len(second))
  product = jnp.einsum(
    'ia,cab,bj->cij', first, cells, second, precision='highest'
  )
  return product.reshape(rows.shape)


def _matrix(doublings: int) -> np.ndarray:
  """H / sqrt(n) of n = 2^doublings, float32 `[n, n]`, symmetric."""
  index = np.arange(2**doublings)
  parity = np.bitwise_count(index[:, None] & index) % 2
  return ((1 - 2.0 * parity) / np.sqrt(index.size)).astype(np.float32)
