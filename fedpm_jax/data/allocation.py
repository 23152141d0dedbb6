"""Integer tables with given margins: who gets how many of what.

This is the arithmetic below the partitions: rounding that keeps sums, sharing
out what is scarce, and drawing classes with a fixed number of holders.  The
margins are always exact, whatever the random generator says.

Legend: M clients, C classes.
"""

import numpy as np


def apportion(
  totals: np.ndarray, weights: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
  """Rounds `totals * weights / sum(weights)` so that the rows still add up.

  This is systematic rounding: the running sums of a row are all rounded with
  the same random offset.  Each number becomes the integer below or above it and
  is right on average.  A weight of zero gets exactly zero.

  Args:
    totals: integers `[R]`.
    weights: non-negative `[R, C]`, no row all zero.
    rng: generator.

  Returns:
    Integers `[R, C]` with rows summing to totals.
  """
  running = np.cumsum(weights, axis=1, dtype=np.float64)
  # The sums become exactly 1 from the last positive weight on, so that nothing
  # is left over.
  running /= running[:, -1:]
  offsets = rng.random((len(totals), 1))
  edges = np.floor(totals[:, None] * running + offsets).astype(np.int64)
  edges = np.minimum(edges, totals[:, None])
  return np.diff(edges, axis=1, prepend=0)


def fill(
  wanted: np.ndarray,
  shares: np.ndarray,
  available: np.ndarray,
  rng: np.random.Generator,
) -> np.ndarray:
  """Gives clients what they want by their shares, as far as there is any.

  In each round the clients ask for what they still want.  They split it, by
  their shares, over the classes that are not exhausted.  A class of which they
  ask too much is shared in proportion to the requests, and is then exhausted.
  So after C + 1 rounds at most, every client is served or finds all classes of
  its shares exhausted.

  Args:
    wanted: integers `[M]`.
    shares: non-negative `[M, C]`; zero where a client takes none.
    available: integers `[C]`.
    rng: generator.

  Returns:
    Integers `[M, C]`, rows at most `wanted` and columns at most `available`.
  """
  wanted, left = wanted.copy(), available.copy()
  counts = np.zeros(shares.shape, np.int64)
  while True:
    open_shares = shares * (left > 0)
    asking = np.flatnonzero((wanted > 0) & (open_shares.sum(1) > 0))
    if not len(asking):
      return counts
    requests = apportion(wanted[asking], open_shares[asking], rng)
    # Classes that are short are shared out.  `apportion` works on rows, and a
    # class is a column here.
    over = np.flatnonzero(requests.sum(0) > left)
    requests[:, over] = apportion(left[over], requests[:, over].T, rng).T
    counts[asking] += requests
    wanted[asking] -= requests.sum(1)
    left -= requests.sum(0)


def draw_classes(
  holders: np.ndarray, num_clients: int, c: int, rng: np.random.Generator
) -> np.ndarray:
  """Random classes for every client: exactly c each, `holders` of each class.

  Client after client draws c classes in proportion to the holders that the
  classes still need.  A class that needs as many holders as there are clients
  left must be taken at once.  With R clients left the needs add up to R c.  So
  there are c such classes at most, and at least c classes still need a holder:
  every client finds its c classes.

  Args:
    holders: integers `[C]`, each at most num_clients, with sum num_clients * c.
    num_clients: M.
    c: classes a client.
    rng: generator.

  Returns:
    int `[M, C]` of 0 and 1, rows summing to c and columns to holders.
  """
  needed = holders.copy()
  held = np.zeros((num_clients, len(holders)), np.int64)
  for client in range(num_clients):
    forced = needed == num_clients - client
    weights = np.where(forced, 0, needed)
    free = c - forced.sum()
    if free:
      drawn = rng.choice(
        len(holders), size=free, replace=False, p=weights / weights.sum()
      )
      held[client, drawn] = 1
    held[client, forced] = 1
    needed -= held[client]
  return held
