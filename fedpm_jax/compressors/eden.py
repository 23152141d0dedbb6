"""DRIVE and EDEN: a random rotation, then b bits for each rotated coordinate.

A chunk x `[n]` of the update is rotated by R = H D / sqrt(n), where H is a
Hadamard matrix and D are random signs that both ends draw from the key.  The
rotated coordinates are about normal, whatever x is, so one quantiser serves all
chunks: it rounds z = sqrt(n) Rx / ||x|| to c(z), the nearest of the centroids
of Lloyd and Max for N(0, 1).  The server rotates S c(z) back, where S is a
scale, one float32 a chunk,

    S = ||x||^2 / <c(z), Rx>

For a uniformly random R this is unbiased, with

    E ||out - x||^2 / ||x||^2 -> 1 / (1 - D_b) - 1

where D_b is the quantiser's distortion; the limit is 0.571, 0.133, 0.036, 0.010
for b = 1, 2, 3, 4.  With b = 1 it is DRIVE: c = +-1, S = ||x||^2 / ||Rx||_1,
and the limit is pi/2 - 1.  With b < 1 both ends draw a share b of the
coordinates; these are sent with 1 bit each and scaled by 1 / b, and the limit
is (pi/2) / b - 1.

One Hadamard matrix is not a uniformly random rotation: it does not make a chunk
with few large entries normal.  For x = (a, b, 0, 0, ...) with |a| > |b|, one
bit keeps only a, for every key.  tests/compressors measures what is left of
that bias.

References: Vargaftik, Ben Basat, Portnoy, Mendelson, Ben-Itzhak, Mitzenmacher,
"DRIVE: one-bit distributed mean estimation", NeurIPS 2021; the same,
"EDEN: communication-efficient and robust distributed mean estimation for
federated learning", ICML 2022.  Deviations: the update is cut into chunks,
because padding a whole network to a power of two may double what is sent.  The
last chunk is padded with zeros and sent in full.  That adds at most `chunk` - 1
symbols that belong to no parameter, and these are counted.  A vector below half
a chunk is one smaller chunk.  For b < 1 coordinates are left out after the
rotation, not before it; their number is fixed and their places are the same in
all chunks.  Levels are entropy-coded: 1.91, 2.83, 3.77 bits for b = 2, 3, 4.
"""

import jax
import jax.numpy as jnp
import numpy as np

from fedpm_jax import masks
from fedpm_jax.compressors import base, levels
from fedpm_jax.prng import dithers

# Lloyd-Max centroids of N(0, 1) above 0, by bits; those below 0 mirror them.
CENTROIDS: dict[float, tuple[float, ...]] = {
  1: (0.7978846,),
  2: (0.4527800, 1.5104176),
  3: (0.2450942, 0.7560053, 1.3439093, 2.1519457),
  4: (
    *(0.1283950, 0.3880483, 0.6567591, 0.9423405),
    *(1.2562312, 1.6180464, 2.0690172, 2.7325896),
  ),
}


def drive(layout: masks.Layout, *, chunk: int = 4096) -> base.Compressor:
  """DRIVE: one bit a rotated coordinate; see `eden`.

  Args:
    layout: of the network.
    chunk: n, a power of two; parameters that are rotated together.
  """
  return eden(layout, bits=1, chunk=chunk)


def eden(
  layout: masks.Layout, *, bits: float = 1, chunk: int = 4096
) -> base.Compressor:
  """update float32 `[d]` -> symbols uint8 `[4 C + C m]`: C scales, then levels.

  Args:
    layout: of the network.
    bits: b, the bits of a rotated coordinate: 1, 2, 3 or 4.  If it lies in
      (0, 1), it is the share of the coordinates that are sent, with 1 bit each.
    chunk: n, a power of two.  There are C = ceil(d / n) chunks, and of each
      chunk m coordinates are sent: n, or round(b n) if b < 1.

  Raises:
    ValueError: a number is out of its range.
  """
  if not (bits in CENTROIDS or 0 < bits < 1) or chunk < 1 or chunk & chunk - 1:
    raise ValueError(
      'eden: bits must be 1, 2, 3, 4 or lie in (0, 1), and chunk be a power of'
      f' two, got {bits} and {chunk}.'
    )
  d = layout.num_parameters
  chunk = min(chunk, 1 << (d - 1).bit_length())
  count = -(-d // chunk)
  # With b < 1, 1 bit is sent for each of `keep` coordinates; at least one is.
  keep = max(round(min(bits, 1) * chunk), 1)
  above = np.array(CENTROIDS[max(int(bits), 1)], np.float32)
  centroids = np.concatenate([-above[::-1], above])
  borders = (centroids[1:] + centroids[:-1]) / 2

  def compress(
    key: jax.Array, update: jax.Array, payload: jax.Array
  ) -> jax.Array:
    del payload
    x = jnp.pad(update, (0, count * chunk - d)).reshape(count, chunk)
    signs, places = _shared(key, count, chunk)
    rotated = hadamard(x * signs)
    squares = jnp.sum(x**2, axis=1)
    unit = jnp.sqrt(squares / chunk)[:, None]  # z = rotated / unit
    # The centroid's index is the number of borders at or below z.
    index = sum(
      ((rotated >= b * unit).astype(jnp.int32) for b in borders),
      start=jnp.zeros((), jnp.int32),
    )
    along = jnp.sum(jnp.asarray(centroids)[index] * rotated, axis=1)
    # <c(z), Rx> is positive unless the chunk is zero; then its scale is zero.
    scales = squares / jnp.where(along > 0, along, 1) * (chunk / keep)
    # The server takes what is not sent for 0, and the scale makes up for it.
    if keep < chunk:
      index = index[:, places[:keep]]
    return levels.join(scales, index.reshape(-1))

  def decompress(
    key: jax.Array, symbols: jax.Array, payload: jax.Array
  ) -> jax.Array:
    del payload
    signs, places = _shared(key, count, chunk)
    scales, index = levels.split(symbols, count)
    values = jnp.asarray(centroids)[index].reshape(count, keep)
    values = values * scales[:, None]
    if keep < chunk:
      values = jnp.zeros((count, chunk)).at[:, places[:keep]].set(values)
    return (hadamard(values) * signs).reshape(-1)[:d]

  return base.Compressor(
    compress,
    decompress,
    update='delta',
    aggregated='delta',
    symbols='levels',
    sizes=(levels.BYTES * count, count * keep),
    needs_shared_key=True,
    check=lambda symbols: _problem(symbols, count, chunk, centroids),
  )


def _shared(
  key: jax.Array, count: int, chunk: int
) -> tuple[jax.Array, jax.Array]:
  """What both ends draw: the signs D, and which places are sent first.

  Args:
    key: known to both ends.
    count: C, the number of chunks.
    chunk: n.

  Returns:
    Signs, float32 `[C, n]`, and the places of a chunk in random order, `[n]`.
  """
  # All is drawn at once, because XLA's CPU backend does not finish compiling
  # where it may fuse one hash into another.
  drawn = dithers.bits16(key, (count + 1) * chunk)
  signs = jnp.where(drawn < masks.SCALE // 2, -1.0, 1.0)[: count * chunk]
  return signs.reshape(count, chunk), jnp.argsort(drawn[-chunk:])


def _problem(
  symbols: np.ndarray, count: int, chunk: int, centroids: np.ndarray
) -> str:
  """Why no client can have sent these symbols; empty where one can."""
  # All coordinates of a chunk may add up in one parameter.
  largest = float(centroids[-1]) * chunk**0.5
  return levels.problem(
    symbols, count=count, alphabet=centroids.size, largest=largest
  )


def hadamard(rows: jax.Array) -> jax.Array:
  """The orthonormal Walsh-Hadamard transform of each row, its own inverse.

  For n = a b, H is a Kronecker product.  So it takes two small matrix products,
  n (a + b) multiplications that run at full speed, instead of n log2 n
  additions that do not.

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
  """H / sqrt(n) for n = 2^doublings, float32 `[n, n]`, symmetric."""
  # H_ij = (-1)^(number of ones that i and j share in binary)
  index = np.arange(2**doublings)
  parity = np.bitwise_count(index[:, None] & index) % 2
  return ((1 - 2.0 * parity) / np.sqrt(index.size)).astype(np.float32)
