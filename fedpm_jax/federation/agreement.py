"""What a server and a client must have in common before they train together.

Both are configured by the same files, but each by its own copy.  Two hashes
travel with each round's message: of what every client must have, and of the
data's split where the client takes its part of a simulated one.  A client that
has something else refuses, and its answer says what it has, so that the server
can tell what differs.
"""

import hashlib
import json
from typing import Any, NamedTuple

from fedpm_jax.experiments import checkpoint
from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments.config import Config
from fedpm_jax.models import parameters
from fedpm_jax.models.network import Network, Spec
from fedpm_jax.protocol import wire
from fedpm_jax.protocol.method import Method
from fedpm_jax.system import files, reading
from fedpm_jax.system.text import short

HASH_BYTES = 8
MAX_BYTES = 2**16  # of a client's own, as JSON
# What each end may choose for itself: how it computes, what it writes.
_OWN = ('execution', 'evaluation', 'checkpoint')


class Agreement(NamedTuple):
  """What must be the same at both ends.

  Attributes:
    terms: of every client: the network, the method, the training.
    split: which data, and how they are divided; of simulated clients only.
  """

  terms: dict[str, Any]
  split: dict[str, Any]

  @property
  def hashes(self) -> tuple[bytes, bytes]:
    """Eight bytes each."""
    return _hash(self.terms), _hash(self.split)

  def to_json(self) -> str:
    """As a client sends it to a server that has another one."""
    return json.dumps(self._asdict(), sort_keys=True)


def of(description: dict[str, Any], spec: Spec, network: Network) -> Agreement:
  """The agreement of a configured experiment.

  Args:
    description: as `build.describe` makes it.
    spec: of the network.
    network: its parameters that are not masked are never sent, so both ends
      must have the same.
  """
  terms = files.to_json(configs.deciding(description))
  for name in _OWN:
    terms.pop(name, None)
  split = terms.pop('data')
  terms['network'] = files.to_json(spec._asdict())
  if network.frozen:
    terms['network']['frozen'] = parameters.digest(network.frozen)
  terms['wire']['format'] = wire.VERSION
  return Agreement(terms, split)


def check_private(method: Method, config: Config) -> None:
  """ValueError where flipped bits would hide nothing from the server.

  In a simulation all keys follow from the seed, and only the accuracy is of
  interest.  A real server must not be able to derive which bits were flipped.

  Args:
    method: of the experiment.
    config: likewise.
  """
  if method.compressor.flips and not config.wire.private_randomness:
    raise ValueError(
      'config.wire.private_randomness must be true in a federation whose'
      ' compressor flips bits: else the server can derive which ones.'
    )


def differences(ours: Agreement, theirs: str) -> str:
  """What a client has that differs, in one line.

  Args:
    ours: the server's.
    theirs: what the client sent, which may be anything.

  Raises:
    ValueError: it is no agreement.
  """
  if len(theirs) > MAX_BYTES:
    raise ValueError(f'an agreement of {len(theirs)} characters')
  found = reading.parse_json(theirs, {'terms': {}, 'split': {}})
  changes = []
  for name, own in ours._asdict().items():
    changes += checkpoint.differences(found[name], own)
  return short('; '.join(changes), 500)


def _hash(content: dict[str, Any]) -> bytes:
  text = json.dumps(content, sort_keys=True, separators=(',', ':'))
  return hashlib.sha256(text.encode()).digest()[:HASH_BYTES]
