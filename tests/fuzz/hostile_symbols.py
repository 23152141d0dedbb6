"""Symbols of each sort that are well-formed, but that nobody sends."""

import random
from collections.abc import Callable

import numpy as np

# Bits of a float32: the largest, infinities, quiet and signalling NaN, -0.0,
# the smallest, and about the bounds of the compressors.
_FLOATS = (
  *(0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0xFF7FFFFF),
  *(0x80000000, 0, 1, 0x80000001, 0x7149F2CA, 0x7149F2CB, 0xF149F2CB),
)


def _integers(draw: random.Random, size: int) -> np.ndarray:
  """Uniform in [0, 65536), int32 `[size]`."""
  return np.frombuffer(draw.randbytes(2 * size), np.uint16).astype(np.int32)


def _floats(draw: random.Random, size: int) -> np.ndarray:
  patterns = [
    draw.choice((draw.choice(_FLOATS), draw.randrange(2**32), 0x3F800000))
    for _ in range(draw.choice((1, 1, 2, 3)))
  ]
  return np.resize(np.array(patterns, np.uint32), size).view(np.float32)


def _levels(draw: random.Random, sizes: tuple[int, ...]) -> np.ndarray:
  """Any scales, then levels below some bound."""
  head, rest = sizes[0], sum(sizes[1:])
  scales = np.resize(_floats(draw, -(-head // 4)).view(np.uint8), head)
  top = draw.choice((1, 2, 3, 4, 5, 16, 256))
  levels = _integers(draw, rest) % top
  return np.concatenate([scales, levels]).astype(np.uint8)


def _index(draw: random.Random, sizes: tuple[int, ...]) -> np.ndarray:
  size = sum(sizes)
  top = draw.choice((1, 2, 32, 128, 129, 65536))
  symbols = _integers(draw, size) % top
  symbols[: draw.randrange(3)] = draw.choice((0, 1, 15, 16, 65535))
  symbols[draw.randint(0, size) :] = 0
  return symbols.astype(np.uint16)


def _theta(draw: random.Random, sizes: tuple[int, ...]) -> np.ndarray:
  symbols = _integers(draw, sum(sizes)) % draw.choice((2, 300, 65536))
  return np.maximum(symbols, 1).astype(np.uint16)


def _mask(draw: random.Random, sizes: tuple[int, ...]) -> np.ndarray:
  return _integers(draw, sum(sizes)) < draw.choice((0, 99, 2**15, 2**16))


# {sort: (draw, sizes of the parts) -> symbols}
SYMBOLS: dict[str, Callable[[random.Random, tuple[int, ...]], np.ndarray]] = {
  'mask': _mask,
  'theta': _theta,
  'index': _index,
  'levels': _levels,
  'float32': lambda draw, sizes: _floats(draw, sum(sizes)),
}
