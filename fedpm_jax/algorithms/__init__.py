"""What clients train and what the server believes: one file a paper."""

from fedpm_jax.algorithms import (
  edge_popup,
  fedavg,
  fedavg_grid,
  fedmask,
  fedmrn,
  fedpm,
  signsgd,
)

# A new algorithm is a file and a row.
ALGORITHMS = {
  'fedpm': fedpm.fedpm,
  'fedmask': fedmask.fedmask,
  'edge_popup': edge_popup.edge_popup,
  'fedavg': fedavg.fedavg,
  'fedavg_grid': fedavg_grid.fedavg_grid,
  'fedmrn': fedmrn.fedmrn,
  'signsgd': signsgd.signsgd,
}
