"""Relative-entropy coding: a mask near theta_k for a hundredth of a bit.

Both ends draw the same J candidates of a block of the mask from what both know,
theta_g, the theta that the round started from.  The client weights each by how
much more likely it is under its own theta_k,

    log w_j = sum_i m_ij (logit theta_ki - logit theta_gi) + constant,

draws one, j ~ w, and sends j: log2 J bits a block.  As J grows the law of the
chosen candidate tends to Bernoulli(theta_k); what it takes is log2 J somewhat
above the block's relative entropy KL(theta_k || theta_g).  With a smaller J the
mask is biased towards theta_g, as if the client had made a smaller step:
tests/compressors compares the law with the closed form.

Blocks are made of cells of equal size.  A cell takes every n-th position, with
an odd n, so that it meets all channels of all layers and the cells' relative
entropies are alike.  A block is 1, 2, 4, ... cells, as many as keep the blocks'
mean relative entropy at or below `target_bits`; that number is sent too.  The
smallest block, one cell, bounds the rate by log2 J / cell bits per parameter
whatever theta_k is.

References: Havasi, Peharz, Hernandez-Lobato, "Minimal random code learning",
ICLR 2019 (the importance sampler); Isik, Pase, Gunduz, Koyejo, Weissman,
Zorzi, "Adaptive compression in federated learning via side information"
(KLMS), AISTATS 2024 (masks, theta_g as the law of the candidates).  Deviations
from KLMS: one block size a message, a power of two of cells, instead of block
borders in the message; blocks of spread positions instead of neighbours.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedpm_jax import masks
from fedpm_jax.compressors import base
from fedpm_jax.prng import dithers

_MAX_DOUBLINGS = 15  # cells of a block: at most 2^15


def relative_entropy(
  layout: masks.Layout,
  *,
  cell: int = 512,
  candidates: int = 128,
  target_bits: float = 4.0,
) -> base.Compressor:
  """update q uint16 `[d]` -> symbols uint16 `[1 + cells]`; a mask comes out.

  The first symbol is the binary logarithm of a block's number of cells; one
  index per block follows, then zeros.

  Args:
    layout: of the network.
    cell: parameters of a cell.
    candidates: J, a power of two if no part of a bit shall be wasted.
    target_bits: of relative entropy, which a block is to have on average at
      most.

  Raises:
    ValueError: a number that makes no sense.
  """
  if cell < 1 or not 2 <= candidates <= 2**16 or not target_bits > 0:
    raise ValueError(
      'relative_entropy: cell must be at least 1, candidates in [2, 65536] and'
      f' target_bits positive, got {cell}, {candidates} and {target_bits}.'
    )

  def cells_of(size):
    return -(-size // cell) | 1  # odd: shares no factor with channel counts

  def in_cells(flat):
    """[d] -> [cell, cells]: neighbours lie in different cells."""
    cells = cells_of(flat.size)
    return jnp.pad(flat, (0, cell * cells - flat.size)).reshape(cell, cells)

  def dithers_of(key, indices):
    """Those of candidate indices[c] of every cell c, uint16 [cell, cells]."""
    one = lambda index, c: dithers.bits16(
      jax.random.fold_in(jax.random.fold_in(key, index), c), cell
    )
    each = jnp.arange(indices.size, dtype=jnp.uint32)
    return jax.vmap(one, out_axes=1)(indices.astype(jnp.uint32), each)

  def compress(key, update, payload):
    cells = cells_of(update.size)
    block_of = lambda doublings: jnp.arange(cells) >> doublings
    gain = in_cells(masks.scores_of(update) - masks.scores_of(payload))
    prior = in_cells(payload)

    def log_weights(index):
      u = dithers_of(key, jnp.full(cells, index))
      return jnp.sum(jnp.where(u < prior, gain, 0.0), axis=0)

    weights = lax.map(log_weights, jnp.arange(candidates))  # [J, cells]
    bits_per_cell = jnp.sum(divergence(update, payload)) / cells
    doublings = jnp.floor(jnp.log2(target_bits / (bits_per_cell + 1e-9)))
    doublings = jnp.clip(doublings, 0, _MAX_DOUBLINGS).astype(jnp.int32)
    blocks = jax.ops.segment_sum(
      weights.T, block_of(doublings), num_segments=cells
    )
    # A key of its own, which no candidate has.  The server could derive it.
    chosen = jax.random.categorical(
      jax.random.fold_in(key, candidates), blocks, axis=-1
    )
    sent = jnp.arange(cells) <= (cells - 1) >> doublings
    chosen = jnp.where(sent, chosen, 0)
    return jnp.concatenate([doublings[None], chosen]).astype(jnp.uint16)

  def decompress(key, symbols, payload):
    doublings = jnp.minimum(symbols[0], _MAX_DOUBLINGS).astype(jnp.int32)
    cells = cells_of(payload.size)
    indices = symbols[1:][jnp.arange(cells) >> doublings]
    mask = dithers_of(key, indices) < in_cells(payload)
    return mask.reshape(-1)[: payload.size]

  def check(symbols):
    doublings, indices = int(symbols[0]), symbols[1:]
    blocks = ((indices.size - 1) >> doublings) + 1
    if doublings > _MAX_DOUBLINGS or indices.max() >= candidates:
      return (
        f'got blocks of 2^{doublings} cells and an index of {indices.max()},'
        f' expected at most 2^{_MAX_DOUBLINGS} and {candidates - 1}'
      )
    if indices[blocks:].any():
      return f'got indices beyond the {blocks} blocks, expected zeros'
    return ''

  return base.Compressor(
    compress,
    decompress,
    update='theta',
    aggregated='mask',
    symbols='index',
    sizes=(1 + cells_of(layout.num_parameters),),
    needs_shared_key=True,
    check=check,
  )


def divergence(update: jax.Array, payload: jax.Array) -> jax.Array:
  """KL(theta_k || theta_g) of each position in bits, float32 `[d]`.

  Args:
    update: theta_k as q, uint16 `[d]`.
    payload: theta_g as q, uint16 `[d]`.
  """
  # By exact integer differences: where theta hardly moved, the two terms cancel.
  a, b = update.astype(jnp.int32), payload.astype(jnp.int32)
  p, moved = masks.theta_of(update), (a - b).astype(jnp.float32)
  ones = p * jnp.log1p(moved / b)
  zeros = (1 - p) * jnp.log1p(-moved / (masks.SCALE - b))
  return jnp.maximum(ones + zeros, 0) / np.float32(np.log(2))
