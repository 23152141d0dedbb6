"""Honest messages of every codec: few symbols, but every form of payload."""

import collections
import functools
from collections.abc import Iterator

import numpy as np
from attacks import Honest

from fedpm_jax import codecs
from fedpm_jax.codecs import base, dither
from fedpm_jax.protocol import wire

# No symbol; one; parts of none and of one; enough for more than 256 levels.
SIZES = ((0,), (1,), (4, 0, 1, 9), *2 * [(12, 300, 0, 288)])
LAYOUT_HASH = wire.layout_hash(['a'], [(3,)])
CLIENTS = {wire.Kind.UPLINK: 3, wire.Kind.DOWNLINK: wire.EVERYONE}


def address(codec: str, kind: wire.Kind) -> dict:
  """The header's fields that a receiver expects."""
  return {
    'codec': codec,
    'kind': kind,
    'round_idx': 258,
    'client': CLIENTS[kind],
    'layout_hash': LAYOUT_HASH,
  }


def _clipped(values) -> np.ndarray:
  return np.clip(values, 1, 65535).astype(np.uint16)


def _sides(rng, sizes) -> Iterator[codecs.SideInformation]:
  """What both ends know: a theta of few levels, or of many; many contexts."""
  d = sum(sizes)
  few, many = rng.integers(0, 4, d) * 20000, rng.integers(1, 65536, d)
  for q, contexts in ((few, 3), (many, 3), (few, 200)):
    q = _clipped(q)
    guess = dither.guess(q, rng.integers(0, 65536, d).astype(np.uint16))
    context = rng.integers(0, contexts, d).astype(np.uint8)
    side = codecs.SideInformation(q, sizes, guess, base.Expected(q, context))
    for array in (q, *guess, context):
      array.setflags(write=False)
    yield side
    if d < 100:  # One is enough, because little differs.
      return


def _masks(rng, side) -> Iterator[np.ndarray]:
  d = side.q.size
  yield side.guess.mask ^ (rng.random(d) < 0.02)
  yield rng.random(d) < 0.5
  yield np.zeros(d, np.bool_)


def _thetas(rng, side) -> Iterator[np.ndarray]:
  """Those for which each form of the codecs is the shortest."""
  q, context = side.expected
  d, tensor = q.size, np.repeat(np.arange(len(side.sizes)), side.sizes)
  binomial = rng.binomial(10, 0.5, d)
  levels = np.unique(q)
  step = rng.random(d) < np.where(context > 0, 0.02, 0.3)
  nearby = np.minimum(np.searchsorted(levels, q) + step, levels.size - 1)
  yield q.copy()
  yield levels[nearby]
  yield _clipped(q + (rng.random(d) < 0.1).astype(np.int64))
  yield _clipped(q + np.where(context > 0, 0, rng.integers(0, 9, d)))
  yield _clipped(6553 * binomial)
  yield _clipped(6553 * np.minimum(binomial, 3) + 6553 * tensor)
  yield _clipped(rng.integers(2, 5, d) * 4096 + rng.integers(0, 256, d))
  yield _clipped(tensor * 4096 + rng.integers(0, 512, d))
  yield _clipped(rng.integers(1, 65536, d))


def _levels(rng, side) -> Iterator[np.ndarray]:
  head = rng.integers(0, 256, side.sizes[0])
  d = sum(side.sizes[1:])
  tensor = np.repeat(np.arange(len(side.sizes) - 1), side.sizes[1:])
  for levels in (
    rng.integers(0, 3, d),
    rng.binomial(2, 0.1, d) + 9 * tensor,
    rng.integers(0, 256, d),
  ):
    yield np.concatenate([head, levels]).astype(np.uint8)


def _indices(rng, side) -> Iterator[np.ndarray]:
  yield rng.integers(0, 128, side.q.size).astype(np.uint16)
  yield np.resize([3, 1, 0, 0, 0, 0, 0], side.q.size).astype(np.uint16)


def _floats(rng, side) -> Iterator[np.ndarray]:
  yield rng.standard_normal(side.q.size).astype(np.float32)
  yield np.resize([-0.0, 1e-45, 3.4e38], side.q.size).astype(np.float32)


_LAWS = {
  'mask': _masks,
  'theta': _thetas,
  'levels': _levels,
  'index': _indices,
  'float32': _floats,
}


@functools.cache
def honest(codec: str, kind: wire.Kind) -> list[list[Honest]]:
  """Groups of messages; in a group all are for the same receiver."""
  rng, groups = np.random.default_rng(0), []
  laws = _LAWS[codecs.CODECS[codec].symbols]
  for sizes in SIZES:
    for side in _sides(rng, sizes):
      messages = [
        Honest(
          bytes(wire.encode(symbols, side, **address(codec, kind))),
          symbols,
          side,
          codec,
        )
        for symbols in laws(rng, side)
      ]
      groups.append(_of_each_form(messages))
  return groups


def _of_each_form(messages: list[Honest]) -> list[Honest]:
  """At most two of each, as the first byte of a payload says it."""
  forms = collections.defaultdict(list)
  for honest in messages:
    forms[honest.payload[:1]].append(honest)
  return [honest for form in forms.values() for honest in form[:2]]
