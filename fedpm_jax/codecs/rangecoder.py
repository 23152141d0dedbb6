"""The range coder: integers in, bytes out, WireError on anything else.

This is the only file that imports constriction (Bamler, "Understanding entropy
coding with asymmetric numeral systems", 2022; range coding after Pasco and
Martin).  A model is given by integers, never by floats that a caller computed:
q / 65536 is exact in float32, and counts below 2^53 are exact in float64, so
both ends build the same model on every machine.  The bytes are the same under
constriction 0.4.2 and 0.5.0; golden tests pin them.

The stream knows neither its length nor whether it is intact.  `Reader.finish`
finds leftover words, except one word after the true end: a range coder cannot
tell it from its own tail (`maybe_exhausted`).  Words that are missing are read
as zeros.  Whoever needs more adds a length and a checksum, as `protocol.wire`
does.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

# constriction is compiled and has no type stubs.
from constriction import stream  # pyright: ignore[reportAttributeAccessIssue]

from fedpm_jax.codecs import base

_WORD = np.dtype('<u4')


class Writer:
  """Writes one stream; the calls must mirror those of its `Reader`."""

  def __init__(self) -> None:
    self._coder = stream.queue.RangeEncoder()

  def bits(self, bits: np.ndarray, q: int | np.ndarray) -> None:
    """Appends bits.

    Args:
      bits: bool `[n]`.
      q: 65536 P(one) in [1, 65535]: one integer, or uint16 `[n]`.
    """
    if bits.size:
      self._coder.encode(bits.astype(np.int32), *_bernoulli(q))

  def levels(self, indices: np.ndarray, counts: np.ndarray) -> None:
    """Appends symbols of an alphabet of A.

    Args:
      indices: integers `[n]` in [0, A).
      counts: integers `[A]`, how often each is expected.
    """
    # constriction has no model of one symbol, which would cost nothing anyway.
    if indices.size and counts.size > 1:
      self._coder.encode(indices.astype(np.int32), _categorical(counts))

  def finish(self) -> bytes:
    """The stream, little-endian words of 4 bytes."""
    return self._coder.get_compressed().astype(_WORD).tobytes()


class Reader:
  """Reads what a `Writer` wrote."""

  def __init__(self, payload: base.Payload):
    """Raises WireError unless the payload consists of whole words."""
    if len(payload) % _WORD.itemsize:
      raise base.WireError(
        f'range coder: payload: got {len(payload)} B, expected a multiple of'
        f' {_WORD.itemsize}.'
      )
    words = np.frombuffer(payload, _WORD).astype(np.uint32)
    self._is_empty, self._has_read = not words.size, False
    with _wire_errors():
      self._coder = stream.queue.RangeDecoder(words)

  def bits(self, count: int, q: int | np.ndarray) -> np.ndarray:
    """The next `count` bits, bool `[count]`; q as in `Writer.bits`."""
    if not count:
      return np.zeros(0, np.bool_)
    self._has_read = True
    # With one q for all bits constriction wants their number; with one q for
    # each bit it takes the number from these.
    model, *each = _bernoulli(q)
    with _wire_errors():
      return self._coder.decode(model, *(each or [count])).astype(np.bool_)

  def levels(self, count: int, counts: np.ndarray) -> np.ndarray:
    """The next `count` symbols, int32 `[count]`; counts as in the writer."""
    # As in the writer: an alphabet of one symbol left no bits.
    if not count or counts.size == 1:
      return np.zeros(count, np.int32)
    self._has_read = True
    with _wire_errors():
      return self._coder.decode(_categorical(counts), count)

  def finish(self) -> None:
    """Raises WireError where words are left over."""
    # A decoder has two words in its hands before it has read anything.
    done = self._coder.maybe_exhausted() if self._has_read else self._is_empty
    if not done:
      raise base.WireError(
        'range coder: payload goes on after the last symbol.'
      )


def _bernoulli(q: int | np.ndarray) -> tuple[Any, ...]:
  """The model (and its parameters, one a symbol) that constriction takes."""
  # perfect=True, the default of older versions, is five times slower.
  if np.ndim(q):
    one_each = stream.model.Bernoulli(perfect=False)
    return one_each, q / np.float32(base.THETA_SCALE)
  return (stream.model.Bernoulli(int(q) / base.THETA_SCALE, perfect=False),)


def _categorical(counts: np.ndarray) -> Any:
  """The model of constriction in which symbol i has the weight counts[i]."""
  weights = counts.astype(np.float64)
  return stream.model.Categorical(weights, perfect=False, lazy=False)


@contextlib.contextmanager
def _wire_errors() -> Iterator[None]:
  """Turns whatever constriction raises into WireError."""
  try:
    yield
  # Signals and exhausted memory are no fault of the payload.
  except (KeyboardInterrupt, SystemExit, MemoryError):
    raise
  # BaseException, because a Rust panic is not an Exception.
  except BaseException as error:
    raise base.WireError(f'range coder: {error}') from error
