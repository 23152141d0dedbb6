"""Hostile messages at servers and clients of every method.

This is test_fuzz_codecs.py one level up, with `Server.open` and `Client.open`.
What a server accepts must be finite as it arrives, whatever scales were sent.
And junk must cost next to nothing: guesses are worked out only for messages
whose header and last checksum are right.
"""

import functools
import itertools
import random
import zlib

import attacks
import judge
import numpy as np
import pytest
import throwing
import toy
from attacks import Honest
from hostile_symbols import SYMBOLS

from fedpm_jax import codecs, compressors
from fedpm_jax.compressors import base
from fedpm_jax.protocol import headers
from fedpm_jax.protocol.client import Client, ForgottenError, Memory
from fedpm_jax.protocol.foresight import Foresight
from fedpm_jax.protocol.server import Server

METHODS = toy.methods_table()
CLIENT, ROUND, LAST_IDS = 2, 1, np.arange(3)


class Counting(Foresight):
  """Remembers what was asked of it."""

  asked = 0

  def guesses(self, *args, **options):
    self.asked += 1
    return super().guesses(*args, **options)

  def expected(self, *args, **options):
    self.asked += 1
    return super().expected(*args, **options)


class Ends:
  """A server and a client of a method, and what both know."""

  def __init__(self, name):
    method = toy.named_method(toy.network(), METHODS[name])
    self.method, self.server = method, Server(method, seed=0)
    self.foresight = Counting(
      method, seed=0, aggregation=self.server.aggregation
    )
    self.server.foresight = self.foresight
    self.client = Client(method, seed=0, foresight=self.foresight)
    self.payload = self.drawn(0)
    self.payload.setflags(write=False)
    self.memory = None
    if method.downlink_needs_memory:
      self.memory = Memory(ROUND - 1, self.payload)

  def drawn(self, seed):
    """A payload that a server may have."""
    rng = np.random.default_rng(seed)
    size = self.method.network.layout.num_parameters
    if self.method.algorithm.payload == 'float32':
      return rng.standard_normal(size).astype(np.float32)
    return (1 + 6553 * rng.binomial(9, 0.5, size)).astype(np.uint16)

  def junk_was_cheap(self):
    assert not self.foresight.asked, 'junk must not cost a guess'


class Uplink(Ends):
  """Messages of a client, at the server."""

  who = 'server'

  def honest(self):
    """Some messages, of symbols that a client can have."""
    method, draw, guess = self.method, random.Random(0), None
    if method.dithers_are_shared:
      who = np.array([CLIENT])
      (guess,) = self.foresight.guesses(self.payload, who, ROUND)
    side = headers.uplink_side(method, self.payload, guess)
    while True:
      make = SYMBOLS[method.compressor.symbols]
      symbols = make(draw, method.compressor.sizes)
      finite = symbols.dtype != np.float32 or np.isfinite(symbols).all()
      if not finite or method.compressor.check(symbols):
        continue
      packed = np.packbits(symbols) if method.symbols_are_bits else symbols
      message = self.client.seal(
        packed, self.payload, client=CLIENT, round_idx=ROUND, guess=guess
      )
      yield Honest(bytes(message), symbols, side, method.uplink)

  def open(self, message):
    """The symbols, not packed."""
    self.foresight.asked = 0
    symbols = self.server.open(
      message, self.payload, client=CLIENT, round_idx=ROUND
    )
    if not self.method.symbols_are_bits:
      return symbols
    count = sum(self.method.compressor.sizes)
    return np.unpackbits(symbols, count=count).view(np.bool_)

  def check(self, honest, symbols):
    """What arrives is finite, and a mask is a mask."""
    judge.check_symbols(honest, symbols)
    if self.method.symbols_are_bits:
      symbols = np.packbits(symbols)
    words = self.server.uplink_keys(CLIENT, ROUND)
    add, start = self.server.aggregation.add, self.server.aggregation.start
    arrived = np.asarray(add(start(), words, symbols, self.payload))
    if self.method.compressor.aggregated == 'mask':
      assert 0 <= arrived.min() <= arrived.max() <= 1
    else:
      assert np.abs(arrived).max() <= base.MAX_CHANGE * 1.0001


class Downlink(Ends):
  """Messages of the server, at a client."""

  who = 'client'

  def honest(self):
    """A few: for a client that remembers, and for any."""
    expected = None
    if self.memory is not None:
      expected = self.foresight.expected(self.payload, LAST_IDS, ROUND)
      nearby = np.where(np.arange(expected.q.size) % 17, expected.q, 1)
      for payload in (expected.q, nearby.astype(np.uint16), self.drawn(1)):
        yield self.broadcast(payload, expected)
    for seed in (1, 2):
      yield self.broadcast(self.drawn(seed), None)

  def broadcast(self, payload, expected):
    message = self.server.broadcast(payload, expected, round_idx=ROUND)
    codec = codecs.CODECS[self.method.downlink]
    if 'expected' in codec.needs and expected is None:
      codec = codecs.CODECS[codec.fallback]
    side = headers.downlink_side(self.method, codec.name, expected)
    return Honest(bytes(message), payload, side, codec.name)

  def open(self, message):
    """The payload."""
    self.foresight.asked = 0
    payload, kept = self.client.open(
      message, self.memory, round_idx=ROUND, last_ids=LAST_IDS
    )
    assert (kept is None) == (self.memory is None)
    if kept is not None:
      assert kept.round_idx == ROUND
      np.testing.assert_array_equal(kept.q, payload)
    return payload

  def check(self, honest, payload):
    judge.check_symbols(honest, payload)


made = functools.cache(lambda end, name: end(name))


@pytest.mark.parametrize('name', METHODS)
def test_halves_hold(name, number):
  for end in (Uplink, Downlink):
    link = made(end, name)
    throwing.throw(
      end.who,
      name,
      -(-number // 2),
      [list(itertools.islice(link.honest(), 5))],
      receive=lambda honest, link=link: link.open,
      check=link.check,
      junk_was_refused=link.junk_was_cheap,
    )


def test_every_compressor_is_thrown_at():
  of_rows = {
    row.get('wire.compressor', 'bernoulli') for row in METHODS.values()
  }
  assert of_rows == set(compressors.COMPRESSORS)


def test_who_has_forgotten_asks_only_because_of_a_message_that_is_due():
  """Others that name the short codec are no reason to ask for the whole."""
  link, draw = made(Downlink, 'fedpm'), random.Random(0)
  news = next(link.honest())
  others = [
    make(draw, news, news)
    for make, _, sealed in attacks.ATTACKS.values()
    for _ in range(20)
    if not sealed
  ]
  for field, (start, _) in attacks.FIELDS.items():
    body = bytearray(news.message[:-4])
    body[start] ^= 1
    # Whether the symbols are the right ones shows only in decoding.
    if field != 'symbols_crc':
      others.append(attacks.sealed(bytes(body)))
  for memory in (None, Memory(ROUND - 2, link.payload)):
    open_ = functools.partial(
      link.client.open, memory=memory, round_idx=ROUND, last_ids=LAST_IDS
    )
    with pytest.raises(ForgottenError):
      open_(news.message)
    for message in others:
      if message != news.message:
        with pytest.raises(codecs.WireError) as caught:
          open_(message)
        assert caught.type is codecs.WireError


@pytest.mark.parametrize('name', ['fedpm', 'qsgd'])
def test_news_after_a_round_without_updates(name):
  """All of its messages were refused: theta is what it was, if anything."""
  link = made(Downlink, name)
  nobody = np.zeros(0, np.int64)
  expected = link.foresight.expected(link.payload, nobody, ROUND)
  news = link.broadcast(link.drawn(1), expected)
  payload, _ = link.client.open(
    news.message, link.memory, round_idx=ROUND, last_ids=nobody
  )
  np.testing.assert_array_equal(payload, news.symbols)


@pytest.mark.parametrize('bits', [0x7F800000, 0xFF800000, 0x7FC00000])
def test_a_broadcast_that_is_not_finite_is_refused(bits):
  link = made(Downlink, 'fedavg')
  honest = next(link.honest())

  def open_with(bits):
    floats = honest.symbols.copy()
    floats.view(np.uint32)[7] = bits
    payload = floats.tobytes()
    message = attacks.with_payload(honest, payload, zlib.crc32(payload))
    return link.open(message), floats

  with pytest.raises(codecs.WireError, match='got NaN or infinity'):
    open_with(bits)
  # Any finite weights are the server's to choose.
  got, sent = open_with(0x7F7FFFFF)
  np.testing.assert_array_equal(got, sent)
