"""All keys of an experiment, their defaults and what they mean.

Options of an algorithm, a compressor, an optimiser or a schedule are no keys
here: `config` makes a section of them from the function's signature.
"""

import math

from fedpm_jax.algorithms import ALGORITHMS
from fedpm_jax.compressors import COMPRESSORS
from fedpm_jax.experiments.options import Option, option
from fedpm_jax.experiments.schedules import SCHEDULES

KEYS: dict[str, Option] = {
  'seed': option(0, 'of everything random, in [0, 2^32)'),
  'rounds': option(30, 'communication rounds', 1),
  'num_clients': option(10, 'M, the population', 1),
  'clients_per_round': option(10, 'K, drawn without replacement', 1),
  'local_epochs': option(3, 'epochs of a client in a round', 1),
  'batch_size': option(32, 'B, examples a local step', 1),
  'model': option(
    'conv4', 'conv2, conv4, conv6, conv8, conv10, cnn, lenet, resnet18 or vit'
  ),
  'algorithm': option('fedpm', f'what clients train: {", ".join(ALGORITHMS)}'),
  'data.name': option('digits', 'digits is embedded; else a TFDS name'),
  'data.dir': option(
    '',
    'of TFDS; empty: $TFDS_DATA_DIR, ~/tensorflow_datasets',
    decides=False,
  ),
  'data.cache_dir': option(
    '', 'of decoded arrays; empty: in the folder above', decides=False
  ),
  'data.partition': option('iid', 'iid, c_max, classes or dirichlet'),
  'data.classes_per_client': option(2, 'for c_max and classes'),
  'data.alpha': option(0.3, 'for dirichlet; small is more skewed'),
  'data.sizes': option('equal', 'equal or unequal'),
  'data.max_examples': option(0, "a client's; 0: all", 0),
  'data.validation': option(
    0.0, 'share of the training set that takes the place of the test set'
  ),
  'weights.kind': option(
    'signed_constant', 'signed_constant, uniform or normal'
  ),
  'weights.gain': option(math.e, 'std = gain / sqrt(fan_in)'),
  'optimizer.name': option('adam', 'an optimiser of optax'),
  'optimizer.learning_rate': option(0.1, 'of local steps'),
  'optimizer.schedule': option(
    'constant', f'of the rate over rounds: {", ".join(SCHEDULES)}'
  ),
  'wire.compressor': option(
    'bernoulli', f'from an update to symbols: {", ".join(COMPRESSORS)}'
  ),
  'wire.uplink': option('dither', "codec of a client's symbols"),
  'wire.downlink': option('theta_news', 'codec of what the server broadcasts'),
  # A simulated server knows every key.  This switch refuses methods that rely on
  # that, because in a deployment clients draw their own random numbers.
  'wire.private_randomness': option(
    False, 'refuse what needs the server to know random numbers of clients'
  ),
  'wire.keep_every': option(
    10,
    'keep the masks of every n-th round for report --bits; 0: of none',
    0,
    decides=False,
  ),
  'wire.keep_mb': option(
    250, 'of disk for them, at most: else of fewer rounds', 0, decides=False
  ),
  'aggregation.weights': option(
    'equal', 'how much a client counts: equal, or by its examples'
  ),
  'robust.max_distance': option(
    0.0,
    'a mask farther from theta counts for nothing, 0.02 say; 0: all count',
    0,
  ),
  'execution.lowering': option(
    'auto', 'of convolutions: auto, winograd, mixed, im2col or lax'
  ),
  'execution.dtype': option(
    'float32', 'of activations; bfloat16 on a GPU or TPU'
  ),
  'execution.devices': option(0, 'at most so many; 0: all', 0, decides=False),
  'execution.examples': option(
    'auto',
    'all: each device holds the training set; cohort: the host keeps it and'
    ' sends each turn of clients its own; auto: all, if it takes a quarter of the'
    ' memory at most',
    decides=False,
  ),
  'execution.chunk': option(1, 'clients vectorised at a time on a device', 1),
  'evaluation.every': option(
    0,
    'rounds; 0: chosen, so that it takes a fifth of the time at most',
    0,
    decides=False,
  ),
  'evaluation.batch_size': option(
    250, 'test examples at a time', 1, decides=False
  ),
  'evaluation.masks': option(
    1,
    'n sampled masks; n > 1 adds their spread, vote and ensemble',
    1,
    decides=False,
  ),
  'stopping.patience': option(
    0,
    'evaluations without a better accuracy_mean that end the run; 0: off',
    0,
    decides=False,
  ),
  'stopping.accuracy': option(
    0.0, 'an accuracy_mean that ends the run; 0: off', 0, decides=False
  ),
  'checkpoint.every': option(10, 'rounds', 1, decides=False),
  'checkpoint.keep': option(2, 'checkpoints', 1, decides=False),
  'track': option('', 'tensorboard or wandb: a copy of rows', decides=False),
}
