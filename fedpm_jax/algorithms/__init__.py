"""What clients train and what the server believes: one file a paper."""

from fedpm_jax.algorithms import fedpm

# A new algorithm is a file and a row.
ALGORITHMS = {
  'fedpm': fedpm.fedpm,
}
