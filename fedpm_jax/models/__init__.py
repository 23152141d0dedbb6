"""Models: ordinary Flax modules with a pure init and apply; no mask code."""

import functools

from fedpm_jax.models import conv

# A new model is a file and a row: (num_classes, lowering) -> Flax module.
MODELS = {
  f'conv{depth}': functools.partial(conv.conv, depth)
  for depth in (2, 4, 6, 8, 10)
} | {
  # The usual network of cross-device benchmarks on CIFAR-10.
  'cnn': functools.partial(conv.ConvNet, (32, 64), (128,)),
}
