"""Dithers: 16 random bits a parameter, from which masks are drawn.

A mask is drawn in every local step, for every message and for every candidate
of `compressors.relative_entropy`, so the generator must be cheap.
`jax.random.bits` hashes four words for each 16 bits that it gives
(Threefry-4x32, 20 rounds).  Here a block of Threefry-2x32 with 13 rounds gives
32 bits; it is the shorter of the two variants that Random123 publishes test
vectors for.  The second word of a block is not used: XLA's CPU backend computes
every word of a block separately, so a second word is no cheaper than a first.

The stream is part of the formats.  `protocol.wire.VERSION` and the version of
model files stand for it, and tests/prng/test_dithers.py pins it.
"""

import jax
import jax.numpy as jnp
import numpy as np

from fedpm_jax.prng import threefry
from fedpm_jax.system import xla

_ROUNDS = 13
# Words are drawn in multiples of this many, because XLA's CPU backend makes no
# vector code for odd numbers.
_MULTIPLE = 64


def bits16(key: jax.Array, size: int) -> jax.Array:
  """The dithers u, uniform and independent.

  Let n be half the size, rounded up to a multiple of 64.  Then n words are
  hashed: word i is the first word of the block that the key's first two words
  make of the counter (i, 0).  Dither i is the lower half of word i, and dither
  n + i is its upper half.

  Args:
    key: a typed key of `keys.IMPLEMENTATION`.
    size: how many.

  Returns:
    uint16 `[size]`.
  """
  key_words = jax.random.key_data(key)
  count = _MULTIPLE * -(-size // (2 * _MULTIPLE))
  counter = jnp.arange(count, dtype=jnp.uint32)
  word, _ = threefry.threefry2x32(
    (key_words[0], key_words[1]),
    (counter, jnp.zeros_like(counter)),
    rounds=_ROUNDS,
  )
  # Without the barriers XLA would fuse the hash into every use of the bits.
  word = xla.computed_once(word)
  halves = word[None] >> np.array([[0], [16]], np.uint32)
  halves = xla.computed_once(halves.astype(jnp.uint16))
  return halves.reshape(-1)[:size]
