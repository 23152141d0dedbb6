"""Models: ordinary Flax modules with a pure init and apply; no mask code."""

import functools
from collections.abc import Callable

from flax import linen as nn

from fedpm_jax.models import conv, resnet, vit

# A new model is a file and a row: (num_classes, lowering) -> Flax module.
MODELS: dict[str, Callable[..., nn.Module]] = {
  **{
    f'conv{depth}': functools.partial(conv.conv, depth)
    for depth in (2, 4, 6, 8, 10)
  },
  # The usual network of cross-device benchmarks on CIFAR-10.
  'cnn': functools.partial(conv.ConvNet, (32, 64), (128,)),
  # LeNet-300-100: dense layers only, the first network of supermasks (Zhou,
  # Lan, Liu, Yosinski, NeurIPS 2019) and of lottery tickets.
  'lenet': functools.partial(conv.ConvNet, (), (300, 100)),
  'resnet18': resnet.resnet18,
  'vit': vit.vit,
}
