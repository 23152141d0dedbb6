"""The header fields of a message, and what both ends know before it."""

import functools
from typing import Any

import numpy as np

from fedpm_jax import codecs
from fedpm_jax.codecs.base import Expected, Guess, SideInformation
from fedpm_jax.masks import Layout
from fedpm_jax.protocol import wire
from fedpm_jax.protocol.method import Method


@functools.lru_cache(maxsize=16)
def layout_hash(layout: Layout) -> bytes:
  """Eight bytes that stand for a network's tensors."""
  return wire.layout_hash(layout.names, layout.shapes)


def uplink_fields(
  method: Method, round_idx: int, client: int
) -> dict[str, Any]:
  """The header's fields of a client's message, as `wire.encode` takes them."""
  return {
    'codec': method.uplink,
    'kind': wire.Kind.UPLINK,
    'round_idx': round_idx,
    'client': client,
    'layout_hash': layout_hash(method.network.layout),
  }


def downlink_fields(
  method: Method, codec: str, round_idx: int
) -> dict[str, Any]:
  """The header's fields of a broadcast, as `wire.encode` takes them."""
  return {
    'codec': codec,
    'kind': wire.Kind.DOWNLINK,
    'round_idx': round_idx,
    'client': wire.EVERYONE,
    'layout_hash': layout_hash(method.network.layout),
  }


def uplink_side(
  method: Method, payload: np.ndarray, guess: Guess | None
) -> SideInformation:
  """What both ends know before a client's message."""
  theta_helps = method.symbols_are_bits and method.algorithm.payload == 'theta'
  return SideInformation(
    q=payload if theta_helps else None,
    sizes=method.compressor.sizes,
    guess=guess,
  )


def downlink_side(
  method: Method, codec: str, expected: Expected | None
) -> SideInformation:
  """What both ends know before a broadcast."""
  needed = 'expected' in codecs.CODECS[codec].needs
  return SideInformation(
    sizes=method.network.layout.sizes, expected=expected if needed else None
  )
