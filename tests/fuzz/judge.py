"""What a receiver promises, whatever arrives, and whether it keeps it.

    no exception but WireError, and that in one short line
    nothing on stderr: a panic of a compiled library prints there
    no message takes long, and none more memory than follows from d
    what is accepted are valid symbols; other symbols than the honest ones only
    where the sender had computed all checksums anew
    what a bare decoder accepts is what an encoder can have written
    a refused message leaves no trace: the honest one still opens

What receivers know is read-only, so that nobody writes to it unnoticed.
"""

import collections
import contextlib
import os
import signal
import time
import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
from attacks import Honest

from fedpm_jax import codecs
from fedpm_jax.codecs import base

SLOWEST = 1  # seconds of CPU time, for one message; usual are 0.0001
HANGS = 30  # seconds
# Bytes: some tables with an entry for each theta, and some arrays with an entry
# for each bit of each symbol.
MOST_FIXED, MOST_EACH = 2**21, 200
LONGEST = 500  # characters of an error

_IN_RANGE: dict[str, Callable[[np.ndarray], np.bool_]] = {
  'mask': lambda symbols: symbols.view(np.uint8).max(initial=0) <= 1,
  'theta': lambda symbols: symbols.min(initial=1) >= 1,
  'index': lambda symbols: np.True_,
  'levels': lambda symbols: np.True_,
  'float32': lambda symbols: np.isfinite(symbols).all(),
}
# The bytes with which an encoder says what it chose, a form or a sigma, of the
# payloads that end with a range coder's words.  Symbols have one payload for each
# choice, up to the words at the end, of which one may be too many; missing ones
# are zeros.  A codec without a row here has one payload only.
CHOSEN = {
  'frequency': slice(0),
  'per_tensor': slice(0),
  'per_level': slice(0),
  'prior': slice(0),
  'dither': slice(4, 5),
  'theta_levels': slice(1),
  'theta_news': slice(2),
  'levels': slice(1),
}
_WORD = 4  # bytes

Receive = Callable[[bytes], np.ndarray]
# For the report: who -> seconds of the slowest message.
SLOW: dict[str, float] = collections.defaultdict(float)


class BrokenPromise(AssertionError):
  """A receiver did what it must not do."""


def judged(
  who: str, receive: Receive, message: bytes, most: int = 0
) -> np.ndarray | None:
  """What is accepted, None where the message is refused.

  Args:
    who: of the report.
    receive: what the receiver does.
    message: any bytes.
    most: bytes of memory that the receiver may take; 0 where nobody measures.
  """
  printed, begun = os.fstat(2).st_size, time.thread_time()
  try:
    with limited(most):
      symbols = receive(message)
  except codecs.WireError as error:
    symbols, text = None, str(error)
    if not 0 < len(text) <= LONGEST or '\n' in text:
      raise BrokenPromise(f'its error is not one short line: {text}') from None
  except (BrokenPromise, KeyboardInterrupt, SystemExit):
    raise
  # BaseException, because a panic is not an Exception.
  except BaseException as error:
    name = type(error).__name__
    raise BrokenPromise(f'got {name}: {error}, expected WireError') from error
  seconds = time.thread_time() - begun
  SLOW[who] = max(SLOW[who], seconds)
  if seconds > SLOWEST:
    raise BrokenPromise(f'took {seconds:.1f} s, expected less than {SLOWEST}')
  if os.fstat(2).st_size != printed:
    raise BrokenPromise('something was printed on stderr')
  return symbols


@contextlib.contextmanager
def limited(most: int) -> Iterator[None]:
  """TimeoutError where this hangs, BrokenPromise where it takes much memory."""

  def stop(number, frame):
    raise TimeoutError(f'it was not done after {HANGS} s')

  before = signal.signal(signal.SIGALRM, stop)
  signal.setitimer(signal.ITIMER_REAL, HANGS)
  if most:
    tracemalloc.start()
  try:
    yield
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    peak = 0
    if most:
      peak = tracemalloc.get_traced_memory()[1]
      tracemalloc.stop()
    if peak > most:
      raise BrokenPromise(f'took {peak} B of memory, expected at most {most}')


@contextlib.contextmanager
def named(message: str) -> Iterator[None]:
  """Adds to a failure which message it was."""
  try:
    yield
  except BaseException as error:
    error.add_note(message)
    raise


def check_symbols(honest: Honest, symbols: np.ndarray) -> bytes:
  """Their payload; AssertionError where the codec cannot carry them."""
  codec = codecs.CODECS[honest.codec]
  assert symbols.dtype == base.DTYPES[codec.symbols]
  assert symbols.shape == honest.symbols.shape
  assert _IN_RANGE[codec.symbols](symbols)
  payload = bytes(codec.encode(symbols, honest.side))
  again = codec.decode(payload, symbols.size, honest.side)
  assert same(again, symbols)
  return payload


def check_written(codec: str, got: bytes, written: bytes) -> None:
  """AssertionError unless an encoder can have written this for its symbols.

  Args:
    codec: its name.
    got: a payload that was accepted.
    written: what the encoder writes for the same symbols.
  """
  if codec not in CHOSEN:
    assert got == written, 'no encoder writes this'
    return
  chosen = CHOSEN[codec]
  if got[chosen] != written[chosen]:
    return  # Another choice says the same in other bytes.
  size = len(written)
  assert len(got) <= size + _WORD, 'it goes on after its end'
  difference = _number(got[:size].ljust(size, b'\0')) - _number(written)
  assert abs(difference) < 2 ** (2 * 8 * _WORD), 'no encoder writes this'


def _number(payload: bytes) -> int:
  """Bytes, then little-endian words, as the digits of one number."""
  odd = len(payload) % _WORD
  words = np.frombuffer(payload[odd:], '<u4').astype('>u4').tobytes()
  return int.from_bytes(payload[:odd] + words, 'big')


def same(a: np.ndarray | None, b: np.ndarray) -> bool:
  """Whether both are the same to the bit; NaN is not equal to itself."""
  return (
    a is not None
    and a.dtype == b.dtype
    and a.shape == b.shape
    and a.tobytes() == b.tobytes()
  )
