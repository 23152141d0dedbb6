"""Runs of seconds, for tests of the public API."""

import fedpm_jax as fp


def small(**changes):
  config = fp.config()
  config.update_from_flattened_dict(
    {
      'rounds': 2,
      'num_clients': 3,
      'clients_per_round': 3,
      'local_epochs': 1,
      'batch_size': 8,
      'model': 'cnn',
      'data.max_examples': 16,
      'weights.gain': 1.4,
      'evaluation.every': 1,
    }
    | changes
  )
  return config
