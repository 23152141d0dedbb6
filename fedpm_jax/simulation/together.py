"""The parts of a round that several hosts have computed, made one.

Every host has trained its share of the cohort, coded its messages and added
them up.  After this every host knows the whole round, as if it had been alone,
and makes the server's update for itself.  Sums of masks and of guesses are
integers, so they are exact; per-client numbers stay in the cohort's order.
"""

import itertools
import json
from typing import NamedTuple

import chex
import jax
import numpy as np

from fedpm_jax.algorithms import local
from fedpm_jax.protocol.foresight import GuessSum
from fedpm_jax.simulation.link import Received
from fedpm_jax.system.hosts import Hosts


class Part(NamedTuple):
  """What a host knows of a round; k of the cohort's K clients are its own.

  Attributes:
    ids: int32 `[k]`.
    total: of `aggregation`, `[d]`.
    sums: of the training of each turn, idle clients at the end included.
    received: the k messages.
    far: the clients whose symbols were not added up, and their distances.
    client_states: after the round, `[k, ...]`.
    guess_sum: of the k guesses; None where nobody asks for it.
  """

  ids: np.ndarray
  total: jax.Array
  sums: list[local.Sums]
  received: list[Received]
  far: dict[int, float]
  client_states: chex.ArrayTree
  guess_sum: GuessSum | None


def join(hosts: Hosts, part: Part, *, keep: bool) -> Part:
  """The whole round.

  Args:
    hosts: all of them call this.
    part: of this host.
    keep: whether `received` has the clients' symbols.
  """
  if hosts.count == 1:
    return part
  count = len(part.ids)
  own = lambda *turns: np.concatenate(turns)[:count]
  ids, sums = hosts.rows((part.ids, jax.tree.map(own, *part.sums)))
  guess_sum = part.guess_sum
  if guess_sum is not None:
    guess_sum = guess_sum.joined(ids, hosts.sum(guess_sum.sums))
  told = hosts.gather(
    json.dumps(
      [
        list(part.far.items()),
        [message[1:] for message in part.received],
      ]
    ).encode()
  )
  far, numbers = zip(*map(json.loads, told), strict=True)
  symbols = np.zeros((len(ids), 0), np.uint8)
  if keep:
    symbols = hosts.rows(np.stack([m.symbols for m in part.received]))
  numbers = itertools.chain.from_iterable(numbers)
  return Part(
    ids,
    hosts.sum(part.total),
    [sums],
    [
      Received(own, *number)
      for own, number in zip(symbols, numbers, strict=True)
    ],
    dict(itertools.chain.from_iterable(far)),
    hosts.rows(part.client_states),
    guess_sum,
  )
