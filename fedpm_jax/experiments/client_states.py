"""What clients keep between rounds, all M of them, however few take part."""

import functools

import jax

from fedpm_jax.experiments.config import Config
from fedpm_jax.protocol.method import Method, first_states
from fedpm_jax.system import machine


def check(config: Config, method: Method) -> None:
  """ValueError where they cannot fit into memory.

  Args:
    config: of the run.
    method: whose clients may keep states.
  """
  _, client = jax.eval_shape(functools.partial(first_states, method, 0))
  leaves = jax.tree.leaves(client)
  of_one = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
  of_all, limit = config.num_clients * of_one, machine.memory_limit()
  if 2 * of_all > limit:  # A checkpoint copies them.
    without = 'an algorithm whose clients keep nothing'
    if config.algorithm == 'fedpm' and config.fedpm.persistent_optimizer:
      without = 'config.fedpm.persistent_optimizer=False'
    raise ValueError(
      f'Each of the config.num_clients = {config.num_clients:,} clients keeps'
      f' {of_one / 1e6:,.1f} MB between rounds, together {of_all / 1e9:,.1f} GB,'
      ' of which a checkpoint needs a copy, and there are'
      f' {limit / 1e9:,.1f} GB of memory: use {without}, fewer'
      ' clients or a smaller model.'
    )
