"""Dithers: 16 random bits a parameter, which masks are made of.

A mask is drawn in every local step, for every message and for every candidate
of `compressors.relative_entropy`.  `jax.random.bits` hashes four words for each
16 bits that it gives (Threefry-4x32, 20 rounds).  Here a block of Threefry-2x32
with 13 rounds, the shorter of the two variants that Random123 publishes test
vectors for, gives 32 bits.  Its second word is not used: XLA's CPU backend
computes every word of a block apart.

The stream is part of the formats: `wire.VERSION` and the version of model files
stand for it, and tests/test_dithers.py pins it.
"""

import jax
import jax.numpy as jnp
import numpy as np

from fedpm_jax.prng import threefry
from fedpm_jax.system import xla

_ROUNDS = 13
# Words are drawn in multiples of this many: XLA's CPU backend makes no vector
# code for odd numbers.
_MULTIPLE = 64


def bits16(key: jax.Array, size: int) -> jax.Array:
  """The dithers u, uint16 `[size]`, uniform and independent.

  With n words, the size halved and rounded up to a multiple of 64, dither i is
  the lower half of word i, and dither n + i its upper half; word i is the first
  of the block that the key's first two words make of the counter (i, 0).

  Args:
    key: a typed key of `keys.IMPLEMENTATION`.
    size: how many.
  """
  key_words = jax.random.key_data(key)
  count = _MULTIPLE * -(-size // (2 * _MULTIPLE))
  counter = jnp.arange(count, dtype=jnp.uint32)
  word, _ = threefry.threefry2x32(
    (key_words[0], key_words[1]),
    (counter, jnp.zeros_like(counter)),
    rounds=_ROUNDS,
  )
  # Hashed once: XLA would fuse the hash into every use of the bits.
  word = xla.computed_once(word)
  halves = word[None] >> np.array([[0], [16]], np.uint32)
  halves = xla.computed_once(halves.astype(jnp.uint16))
  return halves.reshape(-1)[:size]
