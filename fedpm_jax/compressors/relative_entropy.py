"""Relative-entropy coding: a mask near theta_k for a hundredth of a bit.

Both ends draw the same J candidates for a block of the mask.  They draw from
theta_g, the theta that the round started from, because both know it.  The
client weights each candidate by how much more likely it is under its own
theta_k,

    log w_j = sum_i m_ij (logit theta_ki - logit theta_gi) + constant,

draws one, j ~ w, and sends j: log2 J bits a block.  As J grows, the law of the
chosen candidate tends to Bernoulli(theta_k).  For that, log2 J must lie
somewhat above the block's relative entropy KL(theta_k || theta_g).  With a
smaller J the mask is biased towards theta_g, as if the client had made a
smaller step; tests/compressors compares the law with the closed form.

Blocks are made of cells of equal size.  A cell takes every n-th position, with
an odd n, so it meets all channels of all layers and the relative entropies of
the cells are alike.  A block is 1, 2, 4, ... cells: as many as keep the blocks'
mean relative entropy at or below `target_bits`.  That number is sent too.  The
smallest block is one cell.  This bounds the rate by log2 J / cell bits per
parameter, whatever theta_k is.

References: Havasi, Peharz, Hernandez-Lobato, "Minimal random code learning",
ICLR 2019 (the importance sampler); Isik, Pase, Gunduz, Koyejo, Weissman,
Zorzi, "Adaptive compression in federated learning via side information"
(KLMS), AISTATS 2024 (masks, theta_g as the law of the candidates).  Deviations
from KLMS: a message has one block size, a power of two of cells, instead of
block borders; a block has spread positions instead of neighbours.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedpm_jax import masks
from fedpm_jax.compressors import base
from fedpm_jax.prng import dithers

_MAX_DOUBLINGS = 15  # a block has at most 2^15 cells


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
    cell: how many parameters a cell has.
    candidates: J; only a power of two wastes no part of a bit.
    target_bits: the relative entropy that a block may have on average, in bits.

  Raises:
    ValueError: a number is out of its range.
  """
  if cell < 1 or not 2 <= candidates <= 2**16 or not target_bits > 0:
    raise ValueError(
      'relative_entropy: cell must be at least 1, candidates in [2, 65536] and'
      f' target_bits positive, got {cell}, {candidates} and {target_bits}.'
    )

  def compress(
    key: jax.Array, update: jax.Array, payload: jax.Array
  ) -> jax.Array:
    cells = _cells_of(update.size, cell)
    block_of = lambda doublings: jnp.arange(cells) >> doublings
    gain = _in_cells(masks.scores_of(update) - masks.scores_of(payload), cell)
    prior = _in_cells(payload, cell)

    def log_weights(index: jax.Array) -> jax.Array:
      """log w of candidate `index` in every cell, up to a constant: [cells]."""
      u = _dithers_of(key, jnp.full(cells, index), cell)
      return jnp.sum(jnp.where(u < prior, gain, 0.0), axis=0)

    weights = lax.map(log_weights, jnp.arange(candidates))  # [J, cells]
    bits_per_cell = jnp.sum(divergence(update, payload)) / cells
    # The small number keeps the quotient finite where theta has not moved.
    doublings = jnp.floor(jnp.log2(target_bits / (bits_per_cell + 1e-9)))
    doublings = jnp.clip(doublings, 0, _MAX_DOUBLINGS).astype(jnp.int32)
    blocks = jax.ops.segment_sum(
      weights.T, block_of(doublings), num_segments=cells
    )
    # Candidates have the keys 0 to J - 1, so J gives a key of its own.  The
    # server could derive it.
    chosen = jax.random.categorical(
      jax.random.fold_in(key, candidates), blocks, axis=-1
    )
    # Blocks are fewer than cells; the places of the others hold zeros, which
    # the codec leaves out.
    sent = jnp.arange(cells) <= (cells - 1) >> doublings
    chosen = jnp.where(sent, chosen, 0)
    return jnp.concatenate([doublings[None], chosen]).astype(jnp.uint16)

  def decompress(
    key: jax.Array, symbols: jax.Array, payload: jax.Array
  ) -> jax.Array:
    doublings = jnp.minimum(symbols[0], _MAX_DOUBLINGS).astype(jnp.int32)
    cells = _cells_of(payload.size, cell)
    indices = symbols[1:][jnp.arange(cells) >> doublings]
    mask = _dithers_of(key, indices, cell) < _in_cells(payload, cell)
    return mask.reshape(-1)[: payload.size]

  return base.Compressor(
    compress,
    decompress,
    update='theta',
    aggregated='mask',
    symbols='index',
    sizes=(1 + _cells_of(layout.num_parameters, cell),),
    needs_shared_key=True,
    check=lambda symbols: _problem(symbols, candidates),
  )


def divergence(update: jax.Array, payload: jax.Array) -> jax.Array:
  """KL(theta_k || theta_g) of each position in bits, float32 `[d]`.

  Args:
    update: theta_k as q, uint16 `[d]`.
    payload: theta_g as q, uint16 `[d]`.
  """
  # Differences are taken between integers, which is exact: where theta hardly
  # moved, the two terms below cancel and a rounded difference would be noise.
  a, b = update.astype(jnp.int32), payload.astype(jnp.int32)
  p, moved = masks.theta_of(update), (a - b).astype(jnp.float32)
  ones = p * jnp.log1p(moved / b)
  zeros = (1 - p) * jnp.log1p(-moved / (masks.SCALE - b))
  return jnp.maximum(ones + zeros, 0) / np.float32(np.log(2))


def _cells_of(size: int, cell: int) -> int:
  """How many cells of this size a mask has: an odd number."""
  # Odd, so that it shares no factor with the usual numbers of channels, which
  # are powers of two.
  return -(-size // cell) | 1


def _in_cells(flat: jax.Array, cell: int) -> jax.Array:
  """[d] -> [cell, cells]: neighbours lie in different cells."""
  cells = _cells_of(flat.size, cell)
  return jnp.pad(flat, (0, cell * cells - flat.size)).reshape(cell, cells)


def _dithers_of(key: jax.Array, indices: jax.Array, cell: int) -> jax.Array:
  """Dithers of candidate indices[c] in every cell c, uint16 `[cell, cells]`."""
  one = lambda index, c: dithers.bits16(
    jax.random.fold_in(jax.random.fold_in(key, index), c), cell
  )
  each = jnp.arange(indices.size, dtype=jnp.uint32)
  return jax.vmap(one, out_axes=1)(indices.astype(jnp.uint32), each)


def _problem(symbols: np.ndarray, candidates: int) -> str:
  """Why no client can have sent these symbols; empty where one can."""
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
