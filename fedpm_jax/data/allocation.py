"""Integer tables with given margins: who gets how many of what.

The arithmetic below the partitions: rounding that keeps sums, sharing out what
is scarce, and drawing classes with a fixed number of holders.  All of it is
exact in its margins, whatever the random generator says.

Legend: M clients, C classes.
"""

import numpy as np


def apportion(totals, weights, rng):
  """Rounds `totals * weights / sum(weights)` so that the rows still add up.

  Systematic rounding: the running sums of a row are all rounded with the same
  random offset.  Each number comes out as the integer below or above, right on
  average, and a weight of zero gets exactly zero.

  Args:
    totals: integers `[R]`.
    weights: non-negative `[R, C]`, no row all zero.
    rng: generator.

  Returns:
    Integers `[R, C]` with rows summing to totals.
  """
  running = np.cumsum(weights, axis=1, dtype=np.float64)
  # Exactly 1 from the last positive weight on, so that nothing is left over.
  running /= running[:, -1:]
  offsets = rng.random((len(totals), 1))
  edges = np.floor(totals[:, None] * running + offsets).astype(np.int64)
  edges = np.minimum(edges, totals[:, None])
  return np.diff(edges, axis=1, prepend=0)


def fill(wanted, shares, available, rng):
  """Gives clients what they want by their shares, as far as there is any.

  In each round the clients ask for what they still want, split over the
  classes that are not exhausted by their shares; an over-asked class is shared
  in proportion to the requests, and is then exhausted.  So after C + 1 rounds
  at most, everyone is served or finds all classes of its shares exhausted.

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
    over = np.flatnonzero(requests.sum(0) > left)
    requests[:, over] = apportion(left[over], requests[:, over].T, rng).T
    counts[asking] += requests
    wanted[asking] -= requests.sum(1)
    left -= requests.sum(0)


def draw_classes(holders, num_clients, c, rng):
  """Random classes for every client: exactly c each, `holders` of each class.

  Client after client draws c classes in proportion to the holders they still
  need.  A class that needs as many holders as there are clients left must be
  taken at once; since the needs of R clients add up to R c, there are c such
  classes at most, and c classes at least that still need a holder.

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
