"""Every method of the comparison, by name, on the embedded digits.

    python -m fedpm_jax.train --config=configs/methods.py:drive

A method is an algorithm, a compressor and a codec each way, with its own
optimiser.  Learning rates and what else `configs/sweeps/tuning.py` lists were
chosen by it, which says how; other options are the defaults in the methods' own
files.  FedPM's are those of digits.py.  Dense methods start from Kaiming normal
kernels.
"""

import difflib
import math

import fedpm_jax as fp

# Frozen random weights, of which clients learn a mask.
_FROZEN = {'weights.gain': math.sqrt(2), 'adam.b1': 0.3}
# The mask is drawn from theta; see digits.py.
_MASKS = _FROZEN | {'optimizer.learning_rate': 0.25, 'adam.eps': 2e-5}
# Weights are trained, and what changed is sent, both ways.
_DENSE = {
  'weights.kind': 'normal',
  'weights.gain': math.sqrt(2),
  'algorithm': 'fedavg_grid',
  'optimizer.learning_rate': 0.001,
  'wire.uplink': 'levels',
  'wire.downlink': 'theta_news',
}

METHODS = {
  'fedpm': _MASKS,
  # The same masks: one frequency up, as the paper estimates, theta's counts down.
  'fedpm_frequency': _MASKS
  | {'wire.uplink': 'frequency', 'wire.downlink': 'theta_levels'},
  'fedpm_regularised': _MASKS | {'fedpm.regularizer': 1.0},
  'fedpm_klms': _MASKS
  | {
    'wire.compressor': 'relative_entropy',
    'relative_entropy.cell': 256,
    'relative_entropy.candidates': 32,
    'relative_entropy.target_bits': 3.0,
    'wire.uplink': 'index',
  },
  'deltamask': _MASKS
  | {'wire.compressor': 'mask_delta', 'wire.uplink': 'frequency'},
  'fedmask': _FROZEN
  | {
    'algorithm': 'fedmask',
    'fedmask.theta_clip': 0.1,
    'optimizer.learning_rate': 0.3,
    'wire.compressor': 'mask',
    'wire.uplink': 'per_level',
  },
  'topk': _FROZEN
  | {
    'algorithm': 'edge_popup',
    'optimizer.learning_rate': 0.06,
    'wire.compressor': 'mask',
    'wire.uplink': 'per_level',
  },
  # The plain baseline: 32 bits both ways.
  'fedavg': _DENSE
  | {
    'algorithm': 'fedavg',
    'wire.compressor': 'identity',
    'wire.uplink': 'raw',
    'wire.downlink': 'raw',
  },
  'signsgd': _DENSE
  | {
    'algorithm': 'signsgd',
    'signsgd.server_learning_rate': 0.001,
    'wire.compressor': 'sign',
    'wire.uplink': 'per_level',
  },
  'terngrad': _DENSE | {'wire.compressor': 'terngrad'},
  'qsgd': _DENSE | {'wire.compressor': 'qsgd', 'qsgd.levels': 1},
  # Binary masks, which the authors' scripts try first.  Scale and rate: the
  # small CNN on the digits, seed 100, 10 rounds, scales .003 to .3 and rates
  # .001 to .01; of the pairs within one test image of the best, the fewest bits
  # both ways.  The more the noise, the fewer ones a mask has.
  'fedmrn': _DENSE
  | {
    'algorithm': 'fedmrn',
    'mrn.scale': 0.2,
    'optimizer.learning_rate': 0.003,
    'wire.compressor': 'mrn',
    'wire.uplink': 'frequency',
  },
  # EDEN with 1 bit is the same to the last bit.
  'drive': _DENSE | {'wire.compressor': 'drive'},
  'eden_2bit': _DENSE | {'wire.compressor': 'eden', 'eden.bits': 2.0},
  'eden_tenth': _DENSE | {'wire.compressor': 'eden', 'eden.bits': 0.1},
}


def get_config(name: str = 'fedpm'):
  if name not in METHODS:
    near = difflib.get_close_matches(name, METHODS, 1)
    hint = f' Did you mean {near[0]!r}?' if near else ''
    raise ValueError(f'Expected one of {sorted(METHODS)}, got {name!r}.{hint}')
  config = fp.config()
  config.update_from_flattened_dict(METHODS[name])
  return config
