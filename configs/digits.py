"""FedPM on the embedded digits: the default, a minute on two CPU cores.

Data: 1,797 handwritten digits of 8x8 pixels (scikit-learn, UCI), 360 of them
for the test.  CONV-4 (d = 458,698), 10 iid clients of 143 or 144 images, all of
them in every round.  Not in the paper.  The weights' scale is that of the
paper's text, sqrt(2 / fan_in), which does better here than e / sqrt(fan_in) of
the official code.  Adam with a short memory, b1 = 0.3: a client makes 15 steps
a round, and what the first ones did by chance is forgotten sooner: as accurate
as b1 = 0.9 with learning rate 0.15, at a quarter fewer bits.

Expect: test accuracy 0.985, 0.07 bits per parameter up; see README.md.

    python -m fedpm_jax.train
"""

import math

import fedpm_jax as fp


def get_config():
  config = fp.config()
  config.weights.gain = math.sqrt(2)
  config.optimizer.learning_rate = 0.13
  config.adam.b1 = 0.3
  return config
