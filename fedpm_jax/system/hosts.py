"""The hosts of a run: processes of one program that `jax.distributed` joins.

Every host trains its share of each cohort on its own devices.  Here is what
hosts tell each other: arrays and bytes, by collectives of JAX (NCCL between
GPUs, Gloo between CPUs).  All of them call the same functions in the same order;
a program that runs alone calls them too, and they cost nothing.
"""

import contextlib
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

P = jax.sharding.PartitionSpec
_Tree = TypeVar('_Tree')


class HostLost(ConnectionError):
  """Another host is gone, and the run cannot go on without it."""


class HostFailed(RuntimeError):
  """Another host has met an error, which this one ends with."""


# What another host may have met that is no bug: it is raised here as well.
_TOLD = {error.__name__: error for error in (FloatingPointError, MemoryError)}


def join(coordinator: str = '', count: int = 0, index: int = -1) -> None:
  """Joins the other hosts; JAX must not have been used before.

  Args:
    coordinator: 'address:port' of host 0.  Empty: JAX finds all three by itself
      under SLURM and Open MPI, where it gives each process one GPU, and on Cloud
      TPU.
    count: of all hosts.
    index: of this one, from 0.

  Raises:
    ValueError: what is given does not fit together, or the hosts do not find
      each other.
  """
  given = (bool(coordinator), count > 0, index >= 0)
  if any(given) and not (all(given) and index < count):
    raise ValueError(
      'Hosts need --coordinator=ADDRESS:PORT --num_hosts=N --host=I with I < N,'
      ' or --distributed alone where JAX can find them by itself; got'
      f' --coordinator={coordinator} --num_hosts={count} --host={index}.'
    )
  try:
    if any(given):
      # Else JAX would ask SLURM too, and use one GPU of this host.
      jax.distributed.initialize(
        coordinator, count, index, cluster_detection_method='deactivate'
      )
    else:
      jax.distributed.initialize()
  except (RuntimeError, ValueError, TypeError) as error:
    reason = str(error).strip().partition('\n')[0] or type(error).__name__
    raise ValueError(
      f'The hosts of this run did not find each other ({reason}). Start the same'
      ' command on all of them; --coordinator=ADDRESS:PORT names a port of host'
      ' 0 that the others can reach.'
    ) from error


def leave(message: str, code: int) -> NoReturn:
  """Ends this process at once: JAX would wait for hosts that may be gone."""
  if jax.distributed.is_initialized() and jax.process_index() == 0:
    time.sleep(1)  # JAX ends the others with this host: they say why before.
  with contextlib.suppress(OSError):
    print(message, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
  os._exit(code)


class Hosts:
  """Who there is, and what they tell each other.

  Attributes:
    index: of this host, from 0.  Host 0 writes the files of the run.
    count: how many there are.
    ended: whether an error has ended the run on all of them.
  """

  def __init__(self):
    """Starts JAX, if it has not started."""
    self.index, self.count = jax.process_index(), jax.process_count()
    self.ended = False
    if self.count == 1:
      return
    # One device of each host, because hosts may differ in their number.
    of_host = {}
    for device in sorted(jax.devices(), key=lambda d: d.id):
      of_host.setdefault(device.process_index, device)
    self._device = of_host[self.index]
    mesh = jax.sharding.Mesh(
      np.array([of_host[i] for i in range(self.count)]), ('hosts',)
    )
    self._by_host = jax.NamedSharding(mesh, P('hosts'))
    everywhere = jax.NamedSharding(mesh, P())
    self._gather = jax.jit(lambda rows: rows, out_shardings=everywhere)
    self._sum = jax.jit(
      lambda rows: jnp.sum(rows, 0, dtype=rows.dtype), out_shardings=everywhere
    )
    # Hosts of CPUs must connect within 30 seconds.  They have just started side
    # by side; later, one may have to read its data first.
    self.gather(b'')

  @property
  def leads(self) -> bool:
    """Whether this is host 0."""
    return self.index == 0

  def share(self, total: int) -> slice:
    """This host's share of a list: the lists of all hosts are in their order.

    Shares differ by one at most.

    Args:
      total: how long the list is.
    """
    start, stop = (
      i * total // self.count for i in (self.index, self.index + 1)
    )
    return slice(start, stop)

  def sum(self, tree: _Tree) -> _Tree:
    """The sum over hosts of every array, on every host.

    Sums of integers are exact.  Those of floats are the same on all hosts, but
    depend on how many there are, in their last bits.

    Args:
      tree: arrays of the same shapes on every host.

    Returns:
      The tree itself where there is one host; else numpy arrays.
    """
    if self.count == 1:
      return tree
    return jax.tree.map(lambda leaf: self._call(self._sum, leaf), tree)

  def rows(self, tree: _Tree) -> _Tree:
    """The arrays of all hosts, one behind another, on every host.

    Args:
      tree: arrays `[k, ...]`; k may differ by one between hosts, as in `share`.

    Returns:
      The tree itself where there is one host; else numpy arrays `[K, ...]`.
    """
    if self.count == 1:
      return tree
    leaves, structure = jax.tree.flatten(tree)
    if not leaves:
      return tree
    counts = self._call(self._gather, np.int32(len(leaves[0])))

    def joined(leaf):
      leaf = np.asarray(leaf)
      missing = counts.max() - len(leaf)
      padded = np.pad(leaf, [(0, missing), *[(0, 0)] * (leaf.ndim - 1)])
      shape, dtype = padded.shape, padded.dtype
      found = self._call(
        self._gather, np.frombuffer(padded.tobytes(), np.uint8)
      )
      of_host = found.reshape(-1).view(dtype).reshape(self.count, *shape)
      return np.concatenate(
        [part[:k] for part, k in zip(of_host, counts, strict=True)]
      )

    return structure.unflatten([joined(leaf) for leaf in leaves])

  def gather(self, message: bytes) -> list[bytes]:
    """The messages of all hosts, on every host, in their order.

    Args:
      message: of this one, of any length.
    """
    if self.count == 1:
      return [message]
    sizes = self._call(self._gather, np.int32(len(message)))
    # A power of two, so that few programs are compiled.
    room = 1 << int(sizes.max()).bit_length()
    padded = np.frombuffer(message.ljust(room, b'\0'), np.uint8)
    found = self._call(self._gather, padded)
    return [
      bytes(row[:size]) for row, size in zip(found, sizes.tolist(), strict=True)
    ]

  def copy(self, tree: _Tree) -> _Tree:
    """Host 0's arrays, bit for bit, on every host.

    Args:
      tree: of the same structure, shapes and types everywhere.
    """
    if self.count == 1:
      return tree

    def copied(leaf):
      own = np.asarray(leaf)
      words = np.frombuffer(own.tobytes(), np.uint8)
      found = self._call(self._sum, words if self.leads else words * 0)
      return jnp.asarray(found.view(own.dtype).reshape(own.shape))

    return jax.tree.map(copied, tree)

  @contextlib.contextmanager
  def all_or_none(self) -> Iterator[None]:
    """Where one host meets an error, every host ends with it.

    Else the others would wait for it in their next collective.
    """
    if self.count == 1:
      yield
      return
    try:
      yield
    except HostLost:
      raise
    except Exception as error:
      self.gather(f'{type(error).__name__}\n{error}'.encode())
      self.ended = True
      raise
    for index, told in enumerate(self.gather(b'')):
      if told:
        self.ended = True
        name, _, reason = told.decode(errors='replace').partition('\n')
        if name in _TOLD:
          raise _TOLD[name](reason)
        raise HostFailed(f'Host {index} ended with {name}: {reason}')

  def check_same(
    self, what: str, content: bytes | memoryview, remedy: str
  ) -> None:
    """ValueError where hosts hold different things that must be the same.

    Args:
      what: they hold, for the error.
      content: of this host.
      remedy: what to do.
    """
    if self.count == 1:
      return
    sums = self._call(self._gather, np.uint32(zlib.crc32(content)))
    if (sums != sums[0]).any():
      self.ended = True
      other = int(np.argmax(sums != sums[0]))
      raise ValueError(f'Host {other} has another {what} than host 0. {remedy}')

  def _call(self, function: Callable[..., Any], own: Any) -> np.ndarray:
    """Runs a collective on a row of each host; HostLost where one is gone."""
    own = jax.block_until_ready(jnp.asarray(own)[None])
    try:
      rows = jax.make_array_from_single_device_arrays(
        (self.count, *own.shape[1:]),
        self._by_host,
        [jax.device_put(own, self._device)],
      )
      return np.asarray(function(rows).addressable_data(0))
    except (RuntimeError, ValueError) as error:
      self.ended = True
      if 'RESOURCE_EXHAUSTED' in str(error):  # of this host
        raise
      raise HostLost(
        'Another host is gone; its own log says why. Start the same command again'
        ' on all hosts: it continues from the last checkpoint.'
        f' ({str(error).strip().partition(chr(10))[0]})'
      ) from error
