"""ResNet-18 for small images, with group norm.

He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016:
four stages of two blocks, each of two 3x3 convolutions beside a shortcut.  As
usual for images of 32x32, the first convolution is 3x3 with stride 1, and no
pool follows it.

Deviation.  Group norm (Wu and He, ECCV 2018) is in place of batch norm, whose
running statistics are neither parameters nor sent, and which fails where
clients have different classes (Hsieh, Phanishayee, Mutlu, Gibbons, "The non-IID
data quagmire of decentralized machine learning", ICML 2020).  Its scale and bias
stay frozen at 1 and 0; see `models.parameters`.
"""

import jax
from flax import linen as nn

from fedpm_jax.models import inputs

WIDTHS = (64, 128, 256, 512)


class ResNet(nn.Module):
  """Residual blocks of two convolutions; a pure function of its images.

  Attributes:
    widths: channels of the stages; each but the first halves the image.
    blocks: in each stage.
    groups: of channels in a norm, a divisor of all widths.
    num_classes: the number of logits.
  """

  widths: tuple[int, ...] = WIDTHS
  blocks: int = 2
  groups: int = 32
  num_classes: int = 10

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Logits of images.

    Args:
      x: [B, H, W, C] float32.

    Returns:
      [B, num_classes].

    Raises:
      ValueError: these are no images.
    """
    inputs.check_images(x)
    x = nn.relu(self._norm(_conv(self.widths[0], 3, 1, 'stem')(x), 'stem_norm'))
    for i, width in enumerate(self.widths):
      for j in range(self.blocks):
        stride = 2 if i and not j else 1
        x = self._block(x, width, stride, f'block_{i}_{j}')
    return nn.Dense(self.num_classes, name='head')(x.mean((1, 2)))

  def _block(self, x: jax.Array, width: int, stride: int, name: str):
    y = _conv(width, 3, stride, f'{name}_conv_0')(x)
    y = nn.relu(self._norm(y, f'{name}_norm_0'))
    y = self._norm(_conv(width, 3, 1, f'{name}_conv_1')(y), f'{name}_norm_1')
    if x.shape != y.shape:
      x = _conv(width, 1, stride, f'{name}_shortcut')(x)
      x = self._norm(x, f'{name}_shortcut_norm')
    return nn.relu(x + y)

  def _norm(self, x: jax.Array, name: str) -> jax.Array:
    return nn.GroupNorm(self.groups, name=name)(x)


def resnet18(*, num_classes: int, lowering: str = 'auto') -> ResNet:
  """ResNet-18; see `ResNet`.

  Args:
    num_classes: the number of logits.
    lowering: is that of the network around it, which computes its `nn.Conv`.
  """
  del lowering
  return ResNet(num_classes=num_classes)


def _conv(width: int, size: int, stride: int, name: str) -> nn.Conv:
  """A convolution without bias, since a norm follows."""
  return nn.Conv(
    width,
    (size, size),
    (stride, stride),
    padding=size // 2,
    use_bias=False,
    name=name,
  )
