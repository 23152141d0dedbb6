"""CONV-2, 4, 6, 8 and 10: the convolutional networks of the FedPM paper.

They have pairs of 3x3 convolutions, each with bias and ReLU, a 2x2 max pool
after every pair, then dense layers of 256, 256 and num_classes.  These are the
small VGG networks of Ramanujan et al., "What's Hidden in a Randomly Weighted
Neural Network?", CVPR 2020, with biases.  Parameters are conv_0, conv_1, ...
and dense_0, dense_1, dense_2, each with a kernel and a bias.
"""

import jax
from flax import linen as nn

from fedpm_jax.models import dense, inputs
from fedpm_jax.models import lowering as lowerings

WIDTHS = (64, 128, 256, 512, 1024)  # of the pairs of convolutions, in order
DENSE_WIDTHS = (256, 256)


class ConvNet(nn.Module):
  """A small VGG network; a pure function of its parameters and inputs.

  Attributes:
    widths: outputs of the convolutions, an even number of them.
    dense_widths: outputs of the dense layers before the last.
    num_classes: the number of logits.
    lowering: how convolutions are computed; see `models.lowering`.
  """

  widths: tuple[int, ...]
  dense_widths: tuple[int, ...] = DENSE_WIDTHS
  num_classes: int = 10
  lowering: str = 'auto'

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Logits of images; without convolutions, of rows of a table too.

    Args:
      x: [B, H, W, C] float32; without convolutions [B, ...].

    Returns:
      [B, num_classes].

    Raises:
      ValueError: an odd number of widths, or images too small for the pools.
    """
    if len(self.widths) % 2:
      raise ValueError(f'widths: got {self.widths}, expected pairs')
    inputs.check_floats(x)
    if self.widths:
      inputs.check_images(x, 2 ** (len(self.widths) // 2))  # A pool a pair.
    # Two at a time: a pair ends with a pool, and `conv_pair` groups its images.
    for i in range(0, len(self.widths), 2):
      pair, channels = [], x.shape[-1]
      for j in (i, i + 1):
        shape = (3, 3, channels, self.widths[j])
        pair.append(_Parameters(shape, name=f'conv_{j}')())
        channels = self.widths[j]
      x = lowerings.conv_pair(x, pair, lowering=self.lowering)
    x = x.reshape(x.shape[0], -1)
    for i, width in enumerate((*self.dense_widths, self.num_classes)):
      # The first dense layer sees inputs, or the ReLU of a convolution.
      x = nn.relu(x) if i else x
      kernel, bias = _Parameters((x.shape[-1], width), name=f'dense_{i}')()
      x = dense.product(x, kernel) + bias[None]
    return x


def conv(depth: int, *, num_classes: int, lowering: str = 'auto') -> ConvNet:
  """CONV-`depth`; see `ConvNet`.

  Args:
    depth: 2, 4, 6, 8 or 10 convolutions.
    num_classes: the number of logits.
    lowering: how convolutions are computed; see `models.lowering`.

  Raises:
    ValueError: there is no such network.
  """
  if depth % 2 or not 2 <= depth <= 2 * len(WIDTHS):
    raise ValueError(f'depth: got {depth}, expected 2, 4, 6, 8 or 10')
  widths = tuple(width for width in WIDTHS[: depth // 2] for _ in range(2))
  return ConvNet(widths, num_classes=num_classes, lowering=lowering)


class _Parameters(nn.Module):
  """The kernel and the bias of one layer, convolution or dense.

  Attributes:
    shape: of the kernel: [3, 3, C, O] or [inputs, outputs].
  """

  shape: tuple[int, ...]

  @nn.compact
  def __call__(self) -> tuple[jax.Array, jax.Array]:
    kernel = self.param('kernel', nn.initializers.he_normal(), self.shape)
    bias = self.param('bias', nn.initializers.zeros, self.shape[-1:])
    return kernel, bias
