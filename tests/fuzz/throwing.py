"""Throws hostile messages at a receiver and counts what becomes of them."""

import collections
import random
import resource
import sys
import time
from collections.abc import Callable, Sequence

import judge
import numpy as np
from attacks import ATTACKS, Honest, May
from damages import DAMAGES
from judge import BrokenPromise, Receive

from fedpm_jax import codecs

OPEN_EVERY = 50  # messages, after which the honest one must still open
# Messages, of which one's memory is measured: that takes as long as the rest.
MEASURE_EVERY = 7
MOST_GROWTH = 64  # MiB of the process, in all messages of one receiver

# For the report: (who, attack, outcome) -> how often, and who -> seconds.
TALLY: collections.Counter[tuple[str, str, str]] = collections.Counter()
SECONDS: dict[str, float] = collections.defaultdict(float)
Groups = Sequence[Sequence[Honest]]


def throw(
  who: str,
  row: str,
  number: int,
  groups: Groups,
  *,
  receive: Callable[[Honest], Receive],
  check: Callable[[Honest, np.ndarray], object],
  junk_was_refused: Callable[[], None] = lambda: None,
) -> None:
  """Throws messages of all `ATTACKS`.

  Args:
    who: of the report.
    row: which receiver; the messages follow from `who` and this name.
    number: of messages.
    groups: honest messages; those of a group have the same receiver.
    receive: what the receiver of an honest message does with bytes.
    check: raises AssertionError unless what was accepted is valid.
    junk_was_refused: is called after each refusal of what was not sealed.
  """
  draw = random.Random(f'{who} {row}')
  for group in groups:
    for honest in group:
      _must_open(honest, receive(honest))
  before, begun = peak_mib(), time.monotonic()
  for i in range(number):
    attack = list(ATTACKS)[i % len(ATTACKS)]
    make, may, sealed = ATTACKS[attack]
    group = draw.choice(groups)
    honest, other = draw.choice(group), draw.choice(group)
    message, open_ = make(draw, honest, other), receive(honest)
    with judge.named(f'{who}, {row}, message {i} ({attack}): {message.hex()}'):
      symbols = judge.judged(who, open_, message, _most(honest, i))
      outcome = _outcome(symbols, message, may, honest, other)
      if symbols is not None:
        check(honest, symbols)
      elif not sealed:
        junk_was_refused()
      if i % OPEN_EVERY == 0 or i == number - 1:
        _must_open(honest, open_)
    TALLY[who, attack, outcome] += 1
  SECONDS[who] += time.monotonic() - begun
  grown = peak_mib() - before
  if grown > MOST_GROWTH:
    raise BrokenPromise(f'{who}, {row}: memory grew by {grown:.0f} MiB.')


def throw_bare(row: str, number: int, groups: Groups) -> None:
  """Throws payloads of all `DAMAGES` straight at a codec's decoder."""
  who = 'bare decoder'
  draw, codec = random.Random(f'{who} {row}'), codecs.CODECS[row]
  receive = lambda honest: (
    lambda payload: codec.decode(payload, honest.symbols.size, honest.side)
  )
  begun = time.monotonic()
  for i in range(number):
    attack = list(DAMAGES)[i % len(DAMAGES)]
    group = draw.choice(groups)
    honest, other = draw.choice(group), draw.choice(group)
    payload = DAMAGES[attack](draw, honest.payload, other.payload)
    with judge.named(f'{who}, {row}, payload {i} ({attack}): {payload.hex()}'):
      symbols = judge.judged(who, receive(honest), payload, _most(honest, i))
      if symbols is not None:
        written = judge.check_symbols(honest, symbols)
        judge.check_written(row, payload, written)
      if payload == honest.payload:
        assert judge.same(symbols, honest.symbols)
    TALLY[who, attack, 'refused' if symbols is None else 'accepted'] += 1
  SECONDS[who] += time.monotonic() - begun


def peak_mib() -> float:
  """The most memory that this process has had so far."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak / (2**20 if sys.platform == 'darwin' else 2**10)


def _most(honest: Honest, i: int) -> int:
  """The most memory that message i may take; 0 where it is not measured."""
  most = judge.MOST_FIXED + judge.MOST_EACH * honest.symbols.size
  return 0 if i % MEASURE_EVERY else most


def _must_open(honest: Honest, open_: Receive) -> None:
  assert judge.same(open_(honest.message), honest.symbols), 'is not read'


def _outcome(
  symbols: np.ndarray | None,
  message: bytes,
  may: May,
  honest: Honest,
  other: Honest,
) -> str:
  """What became of a message, if it may become that."""
  for known in (honest, other):
    if message == known.message:
      if not judge.same(symbols, known.symbols):
        raise BrokenPromise('an honest message is not read')
      return 'honest'
  if symbols is None:
    return 'refused'
  if may is May.REFUSE:
    raise BrokenPromise('it was accepted, its header or checksum is wrong')
  if judge.same(symbols, honest.symbols):
    return 'same symbols'
  if may is May.SAY_THE_SAME:
    raise BrokenPromise('it was accepted, its symbols have another checksum')
  return 'other symbols'
