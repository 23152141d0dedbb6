"""Where a cohort trains: on which devices, side by side or in turn.

Dimensions: K clients in the cohort.
"""

from typing import Any

import jax
import numpy as np

from fedpm_jax import codecs
from fedpm_jax.compressors.base import Compressor

_TURN_BYTES = 2**29  # of symbols, or of examples, on a host


def make_mesh(clients_per_round: int, *, max_devices: int = 0) -> Any:
  """A mesh of one axis, `clients`, over as many devices of this host as help.

  Uses the fewest devices that need no more sequential passes: ten clients take
  two passes on eight devices, and so they do on five.

  Args:
    clients_per_round: K.
    max_devices: at most so many; 0 for all that there are.
  """
  available = jax.local_devices()[: max_devices or None]
  of_a_device = -(-clients_per_round // len(available))
  used = -(-clients_per_round // of_a_device)
  return jax.sharding.Mesh(np.array(available[:used]), ('clients',))


def turn(
  compressor: Compressor, chunk: int, devices: int, example_bytes: int = 0
) -> int:
  """How many clients a device trains before the host has their symbols.

  On a CPU training leaves the host no time for anything else, and short turns
  only wait for one another.  Elsewhere the host codes messages meanwhile; where
  it needs the device's guesses (`Foresight.guesses`), those of two clients a
  turn.

  Args:
    compressor: whose symbols wait for the end of the turn.
    chunk: how many clients a device vectorises.
    devices: that train; those of a CPU share its memory.
    example_bytes: of the examples that a client brings.
  """
  if jax.default_backend() != 'cpu':
    return chunk
  num_bytes = sum(compressor.sizes)
  if compressor.symbols == 'mask':
    num_bytes = -(-num_bytes // 8)  # They are packed.
  else:
    num_bytes *= codecs.base.DTYPES[compressor.symbols].itemsize
  largest = max(num_bytes, example_bytes)
  return max(_TURN_BYTES // devices // largest, chunk)


def told(
  mesh: Any,
  chunk: int,
  clients_per_round: int,
  hosts: int,
  *,
  brings_examples: bool = False,
) -> str:
  """A line on where the clients of a round train.

  Args:
    mesh: of this host.
    chunk: how many clients a device vectorises, at most.
    clients_per_round: K, of all hosts.
    hosts: that share them, each with such a mesh.
    brings_examples: whether each turn brings its own.
  """
  kind = mesh.devices.flat[0].device_kind
  where = f'{mesh.size} device{"s" * (mesh.size > 1)} ({kind})'
  if hosts > 1:
    where = f'{hosts} hosts with {where} each'
  of_a_device = -(-clients_per_round // (hosts * mesh.size))
  side_by_side = min(chunk, of_a_device)
  how = 'one after another' if chunk == 1 else f'{side_by_side} side by side'
  each = f', {of_a_device} on a device, {how}' if of_a_device > 1 else ''
  line = f'Clients of a round: {clients_per_round}, trained on {where}{each}'
  return (
    f'{line}, with examples that they bring.' if brings_examples else f'{line}.'
  )
