"""What `parity.py` compares of a round, computed alike for both codes."""

import numpy as np


def row(
  before: np.ndarray, masks: np.ndarray, after: np.ndarray
) -> dict[str, float]:
  """Figures of a round.

  Args:
    before: theta that the round started from, float `[d]`.
    masks: bool `[K, d]`, as the clients sent them.
    after: theta of the server after the round, float `[d]`.

  Returns:
    theta_mean: of `after`.
    theta_spread: standard deviation of `after`, which says how decided it is.
    bpp_frequency: the paper's estimate, H2 of a mask's frequency of ones, of
      the true bits (their own figure takes .01 and .99 for them).
    bpp_prior: - log2 of the masks' probability under `before`, per bit: it
      grows with what clients move.
  """
  frequency = masks.mean(axis=1)
  one, zero = (-np.log2(np.clip(p, 1e-6, 1)) for p in (before, 1 - before))
  return {
    'theta_mean': float(after.mean()),
    'theta_spread': float(after.std()),
    'bpp_frequency': float(np.mean(_entropy(frequency))),
    'bpp_prior': float(np.mean([np.where(m, one, zero).mean() for m in masks])),
  }


def _entropy(p: np.ndarray) -> np.ndarray:
  p = np.clip(p, 1e-12, 1 - 1e-12)
  return -p * np.log2(p) - (1 - p) * np.log2(1 - p)
