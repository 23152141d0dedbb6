"""A small vision transformer for small images.

Dosovitskiy et al., "An image is worth 16x16 words: transformers for image
recognition at scale", ICLR 2021: patches become tokens, and blocks of attention
and of two dense layers follow, each behind a layer norm and beside a shortcut.

Deviations.  Patches are 4x4, because images are small.  The head sees the mean
of all tokens instead of a class token (Beyer, Zhai, Kolesnikov, "Better plain
ViT baselines for ImageNet-1k", arXiv 2205.01580, 2022).  The tokens' places are
masked random vectors, and the norms' scales stay frozen; see
`models.parameters`.
"""

import jax
from flax import linen as nn

from fedpm_jax.models import inputs


class VisionTransformer(nn.Module):
  """A transformer over patches; a pure function of its images.

  Attributes:
    patch: pixels, height and width of a patch.
    width: of a token.
    depth: blocks.
    heads: of attention, a divisor of the width.
    num_classes: the number of logits.
  """

  patch: int = 4
  width: int = 192
  depth: int = 6
  heads: int = 3
  num_classes: int = 10

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Logits of images.

    Args:
      x: [B, H, W, C] float32.

    Returns:
      [B, num_classes].

    Raises:
      ValueError: the images cannot be cut into patches.
    """
    size = self.patch
    inputs.check_images(x)
    if x.shape[1] % size or x.shape[2] % size:
      raise ValueError(
        f'images: got shape {x.shape}, expected [B, H, W, C] with H and W'
        f' multiples of the patch, {size}'
      )
    x = nn.Conv(
      self.width, (size, size), (size, size), 'VALID', name='patches'
    )(x)
    x = x.reshape(len(x), -1, self.width)
    normal = nn.initializers.normal(0.02)
    x = x + self.param('places', normal, (1, *x.shape[1:]))
    for i in range(self.depth):
      y = nn.LayerNorm(name=f'attention_norm_{i}')(x)
      x = x + nn.MultiHeadDotProductAttention(
        self.heads, name=f'attention_{i}'
      )(y)
      y = nn.LayerNorm(name=f'dense_norm_{i}')(x)
      y = nn.gelu(nn.Dense(4 * self.width, name=f'dense_{i}_in')(y))
      x = x + nn.Dense(self.width, name=f'dense_{i}_out')(y)
    x = nn.LayerNorm(name='last_norm')(x).mean(1)
    return nn.Dense(self.num_classes, name='head')(x)


def vit(*, num_classes: int, lowering: str = 'auto') -> VisionTransformer:
  """The small transformer; see `VisionTransformer`.

  Args:
    num_classes: the number of logits.
    lowering: is that of the network around it, which computes its `nn.Conv`.
  """
  del lowering
  return VisionTransformer(num_classes=num_classes)
