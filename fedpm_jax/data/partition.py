"""Which examples each client holds, as a pure function of labels and seed.

Every kind of split answers one question: how many examples of each class does
each client get?  The answer is a table of counts `[M, C]`.  The examples are
then dealt out in the same way for all kinds, and none of them goes to two
clients.

Legend: M clients, N examples, C classes that occur among the labels.
"""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fedpm_jax.data import allocation
from fedpm_jax.prng import keys


class Options(NamedTuple):
  """Settings of the kinds; a kind reads its own and ignores the others."""

  classes_per_client: int | None
  alpha: float | None


def split(
  kind: str,
  labels: np.ndarray,
  *,
  num_clients: int,
  seed: int,
  classes_per_client: int | None = None,
  alpha: float | None = None,
  sizes: str = 'equal',
  max_examples: int | None = None,
) -> list[np.ndarray]:
  """Splits the examples over the clients.

  Args:
    kind: a key of PARTITIONS.
    labels: integers `[N]`.
    num_clients: M, at most N.
    seed: the experiment's seed.
    classes_per_client: for the kinds c_max and classes.
    alpha: for the kind dirichlet, positive; small is more skewed.
    sizes: a key of SIZES: how many examples the clients hold.
    max_examples: at most so many examples a client; the others stay unused.

  Returns:
    M sorted int32 arrays of indices, none empty and no index in two of them.
    Without max_examples every example is used, and with equal sizes the
    clients differ by one example at most; only the kind `classes` may use
    fewer (see there).

  Raises:
    ValueError: a setting is unknown or cannot be met.
  """
  labels = np.asarray(labels)
  if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(
      f'labels must be integers [N], got {labels.dtype} {labels.shape}.'
    )
  for what, value, table in (
    ('kind', kind, PARTITIONS),
    ('sizes', sizes, SIZES),
  ):
    if value not in table:
      raise ValueError(f'{what} must be one of {list(table)}, got {value!r}.')
  _check_count('num_clients', num_clients, len(labels), 'examples')
  if max_examples is not None:
    _check_count('max_examples', max_examples)

  rng = keys.host_rng(seed, keys.Purpose.PARTITION)
  _, class_of, available = np.unique(
    labels, return_inverse=True, return_counts=True
  )
  wanted = _sizes(sizes, len(labels), num_clients, rng)
  if max_examples is not None:
    wanted = np.minimum(wanted, max_examples)
  counts = PARTITIONS[kind](
    available, wanted, rng, Options(classes_per_client, alpha)
  )
  return _deal(class_of, counts, rng)


def label_counts(
  parts: list[np.ndarray], labels: np.ndarray, num_classes: int
) -> np.ndarray:
  """How many examples of each class a client holds, int `[M, num_classes]`."""
  labels = np.asarray(labels)
  return np.stack(
    [np.bincount(labels[part], minlength=num_classes) for part in parts]
  )


def _iid(
  available: np.ndarray,
  wanted: np.ndarray,
  rng: np.random.Generator,
  options: Options,
) -> np.ndarray:
  """Any client, any example: as if a random permutation were cut in M."""
  del options
  counts = np.zeros((len(wanted), len(available)), np.int64)
  left = available.copy()
  for client, size in enumerate(wanted):
    counts[client] = rng.multivariate_hypergeometric(left, size)
    left -= counts[client]
  return counts


def _c_max(
  available: np.ndarray,
  wanted: np.ndarray,
  rng: np.random.Generator,
  options: Options,
) -> np.ndarray:
  """The non-iid split of the official FedPM code.

  A client starts at a random class and walks on from class to class.  It takes
  at most max(1, n_i // c_max) examples of each until it has its n_i.  Where a
  class has run out, or n_i is no multiple of c_max, it walks beyond c_max
  classes.  So the setting is no hard cap: of 10 classes, 10 clients with
  c_max = 2 hold 2.9 each on average.  The official code combines this kind with
  unequal sizes.

  Reference: github.com/BerivanIsik/sparse-random-networks,
  src/fedssm/utils/get_split_dataset.py, split_image_data.
  """
  num_classes = len(available)
  c_max = _check_count(
    'classes_per_client', options.classes_per_client, num_classes, 'classes'
  )
  counts = np.zeros((len(wanted), num_classes), np.int64)
  left = available.copy()
  for client, size in enumerate(wanted):
    quota = max(1, size // c_max)
    # Over class after class, round and round, until the client is full.  The
    # clients together want at most all examples, so this ends.
    budget = size
    k = rng.integers(num_classes)
    while budget > 0:
      taken = min(quota, left[k], budget)
      counts[client, k] += taken
      left[k] -= taken
      budget -= taken
      k = (k + 1) % num_classes
  return counts


def _classes(
  available: np.ndarray,
  wanted: np.ndarray,
  rng: np.random.Generator,
  options: Options,
) -> np.ndarray:
  """Exactly c classes a client.

  The number of clients that hold a class is proportional to its examples, which
  they share evenly.  Where the numbers divide (balanced classes, equal sizes, C
  divides M c, c divides N / M) every example is used and the sizes are as
  asked.  Elsewhere an exact c is more important: examples stay unused and
  clients hold fewer than asked.
  """
  num_clients = len(wanted)
  c = _check_count(
    'classes_per_client',
    options.classes_per_client,
    len(available),
    'classes',
  )
  _check_count('classes_per_client', c, int(wanted.max()), 'examples a client')
  # A holder needs an example of its own, and is one client.
  most = np.minimum(available, num_clients)
  if most.sum() < num_clients * c:
    raise ValueError(
      f'{num_clients} clients of {c} classes each need {num_clients * c}'
      f' holders, but the classes allow only {most.sum()} (no more than they'
      ' have examples): ask for fewer clients or fewer classes_per_client.'
    )
  # Each class gets one holder first, where there are enough holders for all, so
  # that no class stays unused.  The rest follow the numbers of examples.
  holders = np.full(len(available), int(num_clients * c >= len(available)))
  rest = np.array([num_clients * c - holders.sum()])
  holders += allocation.fill(rest, available[None], most - holders, rng)[0]
  held = allocation.draw_classes(holders, num_clients, c, rng)
  # A client gets one example of each of its classes before anything is shared
  # out, so that no other client can take it and c stays exact.
  return held + allocation.fill(
    np.maximum(wanted - c, 0), held, available - held.sum(0), rng
  )


def _dirichlet(
  available: np.ndarray,
  wanted: np.ndarray,
  rng: np.random.Generator,
  options: Options,
) -> np.ndarray:
  """Class shares of a client ~ Dirichlet(alpha * C * class frequencies).

  With balanced classes that is the usual symmetric Dirichlet(alpha).  With any
  classes a large alpha tends to iid.  Where the clients together ask for more
  of a class than there is, they share it in proportion.  They take the missing
  part from the other classes by their shares, and at last from whatever is
  left.

  Reference: Hsu et al., "Measuring the effects of non-identical data
  distribution for federated visual classification", 2019 (where one example is
  drawn after another, so that late clients get what the early ones left).
  """
  alpha = options.alpha
  if alpha is None or not 0 < alpha < np.inf:
    raise ValueError(f'alpha must be positive and finite, got {alpha}.')
  frequencies = available / available.sum()
  shares = rng.dirichlet(alpha * len(available) * frequencies, size=len(wanted))
  counts = allocation.fill(wanted, shares, available, rng)
  # Clients whose classes are all exhausted take any class that has examples.
  left = available - counts.sum(0)
  anything = np.broadcast_to(left, counts.shape)
  return counts + allocation.fill(wanted - counts.sum(1), anything, left, rng)


# (available [C], wanted [M], generator, options) -> counts [M, C]
PARTITIONS: dict[
  str,
  Callable[[np.ndarray, np.ndarray, np.random.Generator, Options], np.ndarray],
] = {
  'iid': _iid,
  'c_max': _c_max,
  'classes': _classes,
  'dirichlet': _dirichlet,
}

# (M, generator) -> how large the clients are relative to each other
SIZES: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
  'equal': lambda num_clients, rng: np.ones(num_clients),
  # As in the official code, except that the remainder of the rounding is spread
  # over the clients; there the last client gets it.
  'unequal': lambda num_clients, rng: rng.integers(10, 100, num_clients),
}


def _sizes(
  sizes: str, num_examples: int, num_clients: int, rng: np.random.Generator
) -> np.ndarray:
  """Client sizes `[M]`, at least 1 each, that add up to N."""
  weights = SIZES[sizes](num_clients, rng)[None]

  def rounded(total: int) -> np.ndarray:
    return allocation.apportion(np.array([total]), weights, rng)[0]

  wanted = rounded(num_examples)
  # With few examples everyone gets one first; the rest go by the weights.
  if wanted.min() == 0:
    wanted = 1 + rounded(num_examples - num_clients)
  return wanted


def _deal(
  class_of: np.ndarray, counts: np.ndarray, rng: np.random.Generator
) -> list[np.ndarray]:
  """Draws the examples.

  Args:
    class_of: the class of each example, in [0, C), integers `[N]`.
    counts: how many examples of each class a client gets, integers `[M, C]`.
    rng: generator.

  Returns:
    M sorted arrays of indices.
  """
  num_clients, num_classes = counts.shape
  # One number for each example, its owner, so that no example can have two.
  # Owner M, nobody, keeps what is not used.
  owners = np.full(len(class_of), num_clients)
  for k in range(num_classes):
    examples = rng.permutation(np.flatnonzero(class_of == k))
    holders = np.repeat(np.arange(num_clients), counts[:, k])
    owners[examples[: len(holders)]] = holders
  # A stable sort leaves the indices of each owner in order.
  order = np.argsort(owners, kind='stable').astype(np.int32)
  ends = np.cumsum(counts.sum(1))
  return np.split(order[: ends[-1]], ends[:-1])


WEIGHTS = ('equal', 'examples')


def weights(kind: str, clients: list[np.ndarray]) -> np.ndarray | None:
  """How much each client counts where updates are averaged.

  Args:
    kind: one of WEIGHTS: all the same, or by how many examples a client holds
      (FedAvg, McMahan et al. 2017, algorithm 1).
    clients: M arrays of indices.

  Returns:
    int64 `[M]`; None: all count the same.

  Raises:
    ValueError: there is no such kind.
  """
  if kind not in WEIGHTS:
    raise ValueError(f'weights must be one of {WEIGHTS}, got {kind!r}.')
  return np.array([len(c) for c in clients]) if kind == 'examples' else None


def _check_count(
  name: str, value: Any, limit: int | None = None, of_what: str = ''
) -> int:
  """The value as an int if it lies in [1, limit]; else a ValueError."""
  # None and 2.5 have no index; they get the same message as 0.
  try:
    count = operator.index(value)
  except TypeError:
    count = 0
  if count >= 1 and (limit is None or count <= limit):
    return count
  upper = '' if limit is None else f' and at most {limit}, the {of_what}'
  raise ValueError(
    f'{name} must be an integer, at least 1{upper}; got {value!r}.'
  )
