"""Dithers: 16 random bits a parameter, which masks are made of.

A mask is drawn in every local step, for every message and for every candidate
of `compressors.relative_entropy`, so these bits are most of the arithmetic that
FedPM adds to training.  `jax.random.bits` hashes four words for each 16 bits
that it gives (Threefry-4x32, 20 rounds).  Here a block of Threefry-2x32 with 13
rounds gives 32 of them: half the time on a CPU, where XLA computes every word
of a block apart.  Thirteen are the fewest rounds that pass all of TestU01's
BigCrush (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2,
3", SC 2011, table 2).

The stream is part of the formats: `wire.VERSION` and the version of model files
stand for it, and tests/test_dithers.py pins it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_PARITY = np.uint32(0x1BD11BDA)
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
  word, _ = threefry2x32(
    (key_words[0], key_words[1]), (counter, jnp.zeros_like(counter))
  )
  # Hashed once: XLA would fuse the hash into every use of the bits.
  word = lax.optimization_barrier(word)
  halves = word[None] >> np.array([[0], [16]], np.uint32)
  halves = lax.optimization_barrier(halves.astype(jnp.uint16))
  return halves.reshape(-1)[:size]


def threefry2x32(
  key: tuple, counter: tuple, rounds: int = _ROUNDS
) -> tuple[jax.Array, jax.Array]:
  """Encrypts counters under keys.

  Args:
    key: two words, uint32 `[]` or as the counters.
    counter: two words, uint32 `[n]`.
    rounds: 20 in `jax.random`.

  Returns:
    Two words, uint32 `[n]`.
  """
  schedule = (*key, key[0] ^ key[1] ^ _PARITY)
  a, b = counter[0] + schedule[0], counter[1] + schedule[1]
  for i in range(rounds):
    by = np.uint32(_ROTATIONS[i % 8])
    a += b
    b = a ^ ((b << by) | (b >> (np.uint32(32) - by)))
    if i % 4 == 3:
      step = i // 4 + 1
      a += schedule[step % 3]
      b += schedule[(step + 1) % 3] + np.uint32(step)
  return a, b
