"""FedPM on the embedded digits: the default, a minute on two CPU cores.

Data: 1,797 handwritten digits of 8x8 pixels (scikit-learn, UCI), 360 of them
for the test.  CONV-4 (d = 458,698), 10 iid clients of 143 or 144 images, all of
them in every round.  Not in the paper.  The weights' scale is that of the
paper's text, sqrt(2 / fan_in), and Adam's learning rate 0.15: both do better
here than e / sqrt(fan_in) and 0.1 of the official code (0.98 in the mean).

Expect: test accuracy 0.985 to 0.99, 0.34 bits per parameter; see README.md.

    python -m fedpm_jax.train
"""

import math

from fedpm_jax import config as configs


def get_config():
  config = configs.default()
  config.weights.gain = math.sqrt(2)
  config.optimizer.learning_rate = 0.15
  return config
