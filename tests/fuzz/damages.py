"""Bytes into other bytes, by whoever does not know what they mean."""

import random
from collections.abc import Callable

# (draw, bytes, those of another honest message) -> bytes
Damage = Callable[[random.Random, bytes, bytes], bytes]

# Integers as in codecs/varint.py: the ends of what bytes, thetas and the format
# can hold, two that are longer than they need be, and two that are too long.
_VARINTS = (
  *(b'\x00', b'\x01', b'\x7f', b'\x80\x01', b'\xff\x01', b'\x80\x02'),
  *(b'\xff\xff\x03', b'\x80\x80\x04', b'\xff\xff\x07', b'\xff\xff\xff\xff\x0f'),
  *(b'\xff\xff\xff\xff\x7f', b'\x80\x00', b'\x85\x80\x00'),
  *(b'\xff\xff\xff\xff\xff\x7f', b'\xff' * 9 + b'\x01'),
)


def _place(draw: random.Random, size: int) -> int:
  """Where to do damage, in [0, size).

  Mostly in the tables, which stand in front, and seldom in the first bytes,
  which only say what follows.
  """
  first = draw.choice((0, 1, 1, 4))
  return min(first + draw.randrange(draw.choice((3, 12, 48, size))), size - 1)


def _of_like_length(draw: random.Random, changed: bytes, data: bytes) -> bytes:
  """As long as before, every other time: else words begin elsewhere."""
  if draw.random() < 0.5:
    return changed
  return changed[: len(data)].ljust(len(data), b'\0')


def _flipped(draw: random.Random, data: bytes, other: bytes) -> bytes:
  del other
  flipped = bytearray(data)
  for _ in range(draw.choice((1, 1, 1, 2, 4)) if data else 0):
    flipped[_place(draw, len(data))] ^= 1 << draw.randrange(8)
  return bytes(flipped)


def _stepped(draw: random.Random, data: bytes, other: bytes) -> bytes:
  """One or two bytes a little larger or smaller."""
  del other
  stepped = bytearray(data)
  for _ in range(draw.choice((1, 1, 2)) if data else 0):
    place = _place(draw, len(data))
    stepped[place] = (stepped[place] + draw.choice((-2, -1, 1, 2))) % 256
  return bytes(stepped)


def _swapped(draw: random.Random, data: bytes, other: bytes) -> bytes:
  """Two bytes change places, or a part of the one moves to the other."""
  del other
  swapped = bytearray(data)
  if data:
    a, b = _place(draw, len(data)), _place(draw, len(data))
    if draw.random() < 0.5:
      swapped[a], swapped[b] = swapped[b], swapped[a]
    else:
      part = draw.choice((1, swapped[a]))
      swapped[a] = (swapped[a] - part) % 256
      swapped[b] = (swapped[b] + part) % 256
  return bytes(swapped)


def _cut(draw: random.Random, data: bytes, other: bytes) -> bytes:
  del other
  return data[: draw.randrange(len(data))] if data else data


def _extended(draw: random.Random, data: bytes, other: bytes) -> bytes:
  size = draw.choice((1, 2, 4, 8, 8, 12, 16))
  return data + draw.choice(
    (bytes(size), b'\xff' * size, draw.randbytes(size), other)
  )


def _spliced(draw: random.Random, data: bytes, other: bytes) -> bytes:
  """The front of one, the rest of the other."""
  start = _place(draw, len(data) + 1)
  end = start if draw.random() < 0.5 else draw.randint(0, len(other))
  return data[:start] + other[end:]


def _moved(draw: random.Random, data: bytes, other: bytes) -> bytes:
  """A part is overwritten, repeated or left out."""
  del other
  start = _place(draw, len(data) + 1)
  if draw.random() < 0.5:  # The words of a range coder end with the payload.
    start = len(data) - 4 * draw.randint(0, len(data) // 4)
  end = min(start + draw.choice((1, 2, 4, 4, 8, 64)), len(data))
  size = end - start
  part = (
    bytes(size),
    b'\xff' * size,
    draw.randbytes(size),
    2 * data[start:end],
    b'',
  )
  changed = data[:start] + draw.choice(part) + data[end:]
  return _of_like_length(draw, changed, data)


def _number(draw: random.Random, data: bytes, other: bytes) -> bytes:
  """Another integer in the place of a byte or two."""
  del other
  start = _place(draw, len(data) + 1)
  end = start + draw.choice((0, 1, 1, 2))
  changed = data[:start] + draw.choice(_VARINTS) + data[end:]
  return _of_like_length(draw, changed, data)


def _noise(draw: random.Random, data: bytes, other: bytes) -> bytes:
  """Random bytes, often of the right length."""
  del other
  longest = 2 * len(data) + 8
  return draw.randbytes(draw.choice((len(data), draw.randint(0, longest))))


def _table(draw: random.Random, data: bytes, other: bytes) -> bytes:
  """A form, small numbers, then noise: gets further than noise alone."""
  del other
  form = draw.choice((data[:1], bytes([draw.randrange(8)])))
  kept = data[1 : 1 + draw.choice((0, 0, 2, 12))]
  top = draw.choice((2, 4, 16, 128, 256))
  size = draw.randint(0, draw.choice((20, 20, 900)))
  small = bytes(byte % top for byte in draw.randbytes(size))
  return form + kept + small + draw.randbytes(4 * draw.randrange(8))


DAMAGES: dict[str, Damage] = {
  'flipped': _flipped,
  'stepped': _stepped,
  'swapped': _swapped,
  'cut': _cut,
  'extended': _extended,
  'spliced': _spliced,
  'moved': _moved,
  'number': _number,
  'noise': _noise,
  'table': _table,
}
