"""Where training examples lie: all on every device, or a turn's own.

While the training set is small, every device holds all of it, and a round sends
indices only.  A set that is large stays with the host, perhaps as a file that is
mapped into memory, and each turn of clients brings its own examples.  Indices
then point into those.  Both train the same, to the bit.

Dimensions: N examples of the training set, n of a client at most, T clients in
a turn, S local steps, B batch.
"""

from collections.abc import Sequence

import jax
import numpy as np

from fedpm_jax.protocol.client import Work
from fedpm_jax.system import machine

WAYS = ('auto', 'all', 'cohort')
# Of a device's memory, which has to hold activations and states too.
_SHARE = 1 / 4


def most(
  way: str,
  inputs: np.ndarray,
  client_examples: Sequence[np.ndarray],
  devices: int,
) -> int:
  """n, if the training set stays with the host; 0 if every device holds it.

  Args:
    way: 'all': it lies on every device; 'cohort': with the host; 'auto': with
      the host if it takes more than a quarter of the memory of a device.
    inputs: `[N, ...]`.
    client_examples: M arrays.
    devices: that train; those of a CPU share its memory.
  """
  copies = devices if jax.default_backend() == 'cpu' else 1
  is_large = copies * inputs.nbytes > _SHARE * machine.memory_limit()
  if way == 'all' or (way == 'auto' and not is_large):
    return 0
  return max(map(len, client_examples))


def brought(
  work: Work, inputs: np.ndarray, labels: np.ndarray, most: int
) -> tuple[Work, tuple[np.ndarray, np.ndarray]]:
  """What a turn of clients brings, and where in it each step finds its examples.

  Args:
    work: of the turn, `[T, ...]`; its indices point into the training set.
    inputs: `[N, ...]`, perhaps a mapped file: only these rows are read.
    labels: int32 `[N]`.
    most: n.

  Returns:
    The work with indices into a client's own examples, and these: inputs
    `[T, n, ...]` and labels `[T, n]`.  What a client does not need is filled up
    with the first example of the training set.
  """
  indices, valid = np.asarray(work.indices), np.asarray(work.valid)
  rows = np.zeros((len(indices), most), np.int64)
  places = np.zeros_like(indices)
  for k, (wanted_at, used) in enumerate(zip(indices, valid, strict=True)):
    wanted = np.unique(wanted_at[used])  # In order, as a file likes to be read.
    rows[k, : len(wanted)] = wanted
    places[k][used] = np.searchsorted(wanted, wanted_at[used])
  return work._replace(indices=places), (inputs[rows], labels[rows])
