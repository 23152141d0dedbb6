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


def most_brought(
  way: str,
  inputs: np.ndarray,
  client_examples: Sequence[np.ndarray],
  devices: int,
  chunk: int = 1,
) -> int:
  """n, if the training set stays with the host; 0 if every device holds it.

  Args:
    way: 'all': it lies on every device; 'cohort': with the host; 'auto': with
      the host if it takes more than a quarter of the memory of a device, and
      two chunks of clients need less.
    inputs: `[N, ...]`.
    client_examples: M arrays.
    devices: that train; those of a CPU share its memory.
    chunk: how many clients a device vectorises.
  """
  largest = max(map(len, client_examples))
  if way == 'auto':
    copies = devices if jax.default_backend() == 'cpu' else 1
    of_all = copies * inputs.nbytes
    # One chunk trains, and the next one is on its way.
    of_chunks = copies * 2 * chunk * largest * inputs[:1].nbytes
    is_large = of_all > _SHARE * machine.memory_limit()
    return largest if is_large and of_chunks < of_all else 0
  return largest if way == 'cohort' else 0


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
    `[T, n + 1, ...]` and labels `[T, n + 1]`.  What a client does not need is
    filled up with the first example of the training set.  So is the last place,
    which padding points to, as it does where devices hold the whole set.
  """
  indices, valid = np.asarray(work.indices), np.asarray(work.valid)
  rows = np.zeros((len(indices), most + 1), np.int64)
  places = np.full_like(indices, most)
  for k, (wanted_at, used) in enumerate(zip(indices, valid, strict=True)):
    wanted = np.unique(wanted_at[used])  # In order, as a file likes to be read.
    rows[k, : len(wanted)] = wanted
    places[k][used] = np.searchsorted(wanted, wanted_at[used])
  return work._replace(indices=places), (inputs[rows], labels[rows])
