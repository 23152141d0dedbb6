"""What a hostile sender makes of honest messages: the table `ATTACKS`.

A message has two checksums.  The last one is of its bytes, and whoever computes
it anew has *sealed* the message.  The other one, in the header, is of the
symbols.  Which of them are right decides what a receiver may accept.
"""

import enum
import random
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from damages import DAMAGES, Damage
from hostile_symbols import SYMBOLS

from fedpm_jax import codecs
from fedpm_jax.codecs import base
from fedpm_jax.protocol import wire

HEAD = 34  # bytes of a header
# Where each field of the header begins and ends.
FIELDS = {
  'magic': (0, 3),
  'version': (3, 4),
  'codec': (4, 5),
  'kind': (5, 6),
  'round_idx': (6, 10),
  'client': (10, 14),
  'layout_hash': (14, 22),
  'symbol_count': (22, 26),
  'payload_bytes': (26, 30),
  'symbols_crc': (30, 34),
}


class Honest(NamedTuple):
  """A message that its receiver waits for.

  Attributes:
    message: all of its bytes.
    symbols: what it says, `[n]`.
    side: what both ends know.
    codec: its name.
  """

  message: bytes
  symbols: np.ndarray
  side: codecs.SideInformation
  codec: str

  @property
  def payload(self) -> bytes:
    """Between the header and the last checksum."""
    return self.message[HEAD:-4]


class May(enum.Enum):
  """What a receiver may make of bytes that are not the honest ones."""

  REFUSE = enum.auto()  # The header or the last checksum is wrong.
  SAY_THE_SAME = enum.auto()  # The checksum of the symbols is the honest one.
  SAY_ANYTHING = enum.auto()  # All is right; symbols must still be valid.


def sealed(body: bytes) -> bytes:
  """A message without its last checksum, with the right one."""
  return body + struct.pack('<I', zlib.crc32(body[HEAD:] + body[:HEAD]))


def with_payload(
  honest: Honest, payload: bytes, symbols_crc: int | None = None
) -> bytes:
  """The message with another payload, its length and the last checksum."""
  head = bytearray(honest.message[:HEAD])
  head[slice(*FIELDS['payload_bytes'])] = struct.pack('<I', len(payload))
  if symbols_crc is not None:
    head[slice(*FIELDS['symbols_crc'])] = struct.pack('<I', symbols_crc)
  return sealed(bytes(head) + payload)


def forged(honest: Honest, payload: bytes, draw: random.Random) -> bytes:
  """The message with another payload and all checksums, where it has symbols.

  The sender runs the receiver's decoder.  Where that finds no symbols there is
  no right checksum of them, and any will do.
  """
  try:
    symbols = codecs.CODECS[honest.codec].decode(
      payload, honest.symbols.size, honest.side
    )
    crc = zlib.crc32(base.symbol_bytes(symbols))
  except Exception:
    # That of symbols which are their own bytes, NaN for example.
    crc = zlib.crc32(payload) if draw.random() < 0.9 else draw.randrange(2**32)
  return with_payload(honest, payload, crc)


def _of_message(damage: Damage) -> Callable[..., bytes]:
  return lambda draw, honest, other: damage(draw, honest.message, other.message)


def _of_payload(
  finish: Callable[..., bytes], damages: tuple[str, ...] = tuple(DAMAGES)
) -> Callable[..., bytes]:
  def attack(draw, honest, other):
    damage = DAMAGES[draw.choice(damages)]
    return finish(honest, damage(draw, honest.payload, other.payload), draw)

  return attack


def _edited(draw: random.Random, honest: Honest, other: Honest) -> bytes:
  """The body of the message with a field or two of the header changed."""
  body = bytearray(honest.message[:-4])
  for name in draw.sample(list(FIELDS), draw.choice((1, 1, 2))):
    start, end = FIELDS[name]
    size = end - start
    number = int.from_bytes(body[start:end], 'little')
    values = (
      bytes(size),
      b'\xff' * size,
      draw.randbytes(size),
      other.message[start:end],
      ((number + draw.choice((-1, 1))) % 256**size).to_bytes(size, 'little'),
    )
    body[start:end] = draw.choice(values)
  return bytes(body)


def _edited_only(draw: random.Random, honest: Honest, other: Honest) -> bytes:
  return _edited(draw, honest, other) + honest.message[-4:]


def _edited_sealed(draw: random.Random, honest: Honest, other: Honest) -> bytes:
  return sealed(_edited(draw, honest, other))


def _too_long(draw: random.Random, honest: Honest, other: Honest) -> bytes:
  """Longer than any payload; all fields say so, and the checksum is right."""
  del other
  most = wire.max_payload_bytes(honest.side)
  return with_payload(
    honest, honest.payload.ljust(most + draw.randint(1, 9999))
  )


def _symbols(draw: random.Random, honest: Honest, other: Honest) -> bytes:
  """Well-formed symbols that nobody sends, as the codec writes them."""
  del other
  codec = codecs.CODECS[honest.codec]
  symbols = SYMBOLS[codec.symbols](draw, honest.side.sizes)
  if codec.payload_is_symbols:  # `encode` would refuse NaN.
    payload = bytes(base.symbol_bytes(symbols))
  else:
    payload = bytes(codec.encode(symbols, honest.side))
  crc = zlib.crc32(base.symbol_bytes(symbols))
  return with_payload(honest, payload, crc)


class Attack(NamedTuple):
  """A row of `ATTACKS`.

  Attributes:
    make: (draw, the honest message, another one) -> bytes.
    may: what may be made of them.
    sealed: whether the last checksum is right.
  """

  make: Callable[[random.Random, Honest, Honest], bytes]
  may: May
  sealed: bool = True


def _sealed_payload(honest, payload, draw):
  del draw
  return with_payload(honest, payload)


ATTACKS: dict[str, Attack] = {
  **{
    f'message {name}': Attack(_of_message(DAMAGES[name]), May.REFUSE, False)
    for name in ('flipped', 'cut', 'extended', 'spliced', 'moved', 'noise')
  },
  'header edited': Attack(_edited_only, May.REFUSE, False),
  'header edited, sealed': Attack(_edited_sealed, May.REFUSE),
  'payload too long, sealed': Attack(_too_long, May.REFUSE),
  'payload damaged, sealed': Attack(
    _of_payload(_sealed_payload), May.SAY_THE_SAME
  ),
  'noise as payload, sealed': Attack(
    _of_payload(_sealed_payload, ('noise', 'table')), May.SAY_THE_SAME
  ),
  'payload damaged, forged': Attack(_of_payload(forged), May.SAY_ANYTHING),
  'hostile symbols': Attack(_symbols, May.SAY_ANYTHING),
}
