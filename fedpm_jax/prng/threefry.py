"""Threefry: the keys of a run, without a device, and the hash behind dithers.

Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC
2011.  Keys are Threefry-4x32 with 20 rounds.  `jax.random` has the same
generator ('threefry4x32'), but keys are made in NumPy, for two reasons.  They
are only a few hundred words a round, and known before it.  And each place in a
jitted program that hashes is some 500 instructions, which XLA needs 0.4 s to
compile.  The tests compare the two generators.
"""

from typing import Any

import numpy as np

# Threefry's constants: by how many bits each step rotates, and a parity.
_ROTATIONS = (
  ((10, 26), (11, 21), (13, 27), (23, 5)),
  ((6, 20), (17, 11), (25, 10), (18, 20)),
)
_ROTATIONS_2X32 = (13, 15, 26, 6, 17, 29, 16, 24)
_PARITY = np.uint32(0x1BD11BDA)


def seed(number: int) -> np.ndarray:
  """The key of a seed in [0, 2^32), as `jax.random.key`: uint32 `[4]`."""
  words = np.array([0, number, 0, 0], np.uint32)
  return _hash(words, np.zeros(4, np.uint32))


def fold_in(key: np.ndarray, data: int | np.ndarray) -> np.ndarray:
  """The key of (key, data), as `jax.random.fold_in`.

  Args:
    key: uint32 `[..., 4]`.
    data: integers in [0, 2^32), of a shape that broadcasts against `[...]`.

  Returns:
    uint32 `[..., 4]`.
  """
  data = np.asarray(data).astype(np.uint32)
  shape = np.broadcast_shapes(key.shape[:-1], data.shape)
  counter = np.zeros((*shape, 4), np.uint32)
  counter[..., 3] = data
  return _hash(key, counter)


def _hash(key: np.ndarray, counter: np.ndarray) -> np.ndarray:
  """Encrypts counters `[..., 4]` under keys `[..., 4]`."""
  k = [key[..., i] for i in range(4)]
  k.append(k[0] ^ k[1] ^ k[2] ^ k[3] ^ _PARITY)
  # Sums wrap around on purpose.  NumPy warns about it for scalars only.
  with np.errstate(over='ignore'):
    x = [counter[..., i] + k[i] for i in range(4)]
    for injection in range(1, 6):
      for step, rotations in enumerate(_ROTATIONS[(injection - 1) % 2]):
        first, second = (1, 3) if step % 2 == 0 else (3, 1)
        x[0] = x[0] + x[first]
        x[first] = x[0] ^ _rotated(x[first], rotations[0])
        x[2] = x[2] + x[second]
        x[second] = x[2] ^ _rotated(x[second], rotations[1])
      x = [x[i] + k[(injection + i) % 5] for i in range(4)]
      x[3] = x[3] + np.uint32(injection)
  return np.stack(x, axis=-1)


def threefry2x32(
  key: tuple[Any, Any], counter: tuple[Any, Any], *, rounds: int
) -> tuple[Any, Any]:
  """The variant of two words, for arrays of NumPy or, in a program, of JAX.

  Args:
    key: two words, uint32 `[]` or of the counters' shape.
    counter: two words, uint32 `[n]`.
    rounds: 13 in `prng.dithers`, 20 in `jax.random`.

  Returns:
    Two words, uint32 `[n]`.
  """
  schedule = (*key, key[0] ^ key[1] ^ _PARITY)
  a, b = counter[0] + schedule[0], counter[1] + schedule[1]
  for i in range(rounds):
    a = a + b
    b = a ^ _rotated(b, _ROTATIONS_2X32[i % 8])
    if i % 4 == 3:  # the key is injected after every fourth round
      step = i // 4 + 1
      a = a + schedule[step % 3]
      b = b + (schedule[(step + 1) % 3] + np.uint32(step))
  return a, b


def _rotated(x: Any, by: int) -> Any:
  """uint32 words, rotated to the left."""
  return (x << np.uint32(by)) | (x >> np.uint32(32 - by))
