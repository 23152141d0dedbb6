"""A model and its frozen weights, from a few numbers.

The specification below is all that a client, a server or an artifact needs to
rebuild the random network: the weights follow from the seed.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedpm_jax import masks, models
from fedpm_jax.models import lowering as lowerings
from fedpm_jax.prng import keys
from fedpm_jax.system import xla

DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


class Spec(NamedTuple):
  """What determines a random network to the bit.

  Attributes:
    model: a key of `models.MODELS`.
    image_shape: (H, W, C) of its inputs.
    num_classes: the number of logits.
    seed: of the frozen weights, in [0, 2^32).
    weight_kind: a key of `masks.WEIGHTS`.
    weight_gain: their standard deviation is gain / sqrt(fan_in).
  """

  model: str
  image_shape: tuple[int, int, int]
  num_classes: int
  seed: int
  weight_kind: str
  weight_gain: float


class Network(NamedTuple):
  """A model and its frozen weights, as algorithms see it.

  Attributes:
    layout: of its parameters.
    apply: (params as nested dict, images uint8 `[B, H, W, C]`) -> logits
      `[B, classes]`.
    weights: () -> frozen weights `[d]`, regenerated at every call.
    compiler_options: for the outermost `jax.jit` around the two.
  """

  layout: masks.Layout
  apply: Callable[[Any, jax.Array], jax.Array]
  weights: Callable[[], jax.Array]
  compiler_options: dict[str, str]


def normalise(images: jax.Array) -> jax.Array:
  """uint8 images to float32 in [-1, 1]: (x / 255 - 0.5) / 0.5."""
  return images.astype(jnp.float32) * (2 / 255) - 1


def build(
  spec: Spec, *, lowering: str = 'auto', dtype: str = 'float32'
) -> Network:
  """The network of a specification; nothing is computed before it is used.

  Args:
    spec: see `Spec`.
    lowering: how convolutions are computed; see `models.lowering`.
    dtype: of activations and matrix products, a row of `DTYPES`.  Parameters
      and scores are float32 in any case, and logits are returned as float32.
      In bfloat16 a masked weight +-c or 0 of a sign-constant network loses
      nothing but a factor common to its layer.

  Raises:
    ValueError: naming the field that makes no sense.
  """
  if dtype not in DTYPES:
    raise ValueError(f'dtype must be one of {list(DTYPES)}, got {dtype!r}.')
  lowering = lowerings.resolve(lowering, dtype=dtype)
  if spec.model not in models.MODELS:
    raise ValueError(
      f'model must be one of {sorted(models.MODELS)}, got {spec.model!r}.'
    )
  if spec.weight_kind not in masks.WEIGHTS:
    raise ValueError(
      f'weights.kind must be one of {sorted(masks.WEIGHTS)}, got'
      f' {spec.weight_kind!r}.'
    )
  if not (math.isfinite(spec.weight_gain) and spec.weight_gain > 0):
    raise ValueError(
      f'weights.gain must be positive and finite, got {spec.weight_gain}.'
    )
  if not 0 <= spec.seed < 2**32:
    raise ValueError(f'seed must lie in [0, 2^32), got {spec.seed}.')
  if spec.num_classes < 2:
    raise ValueError(f'num_classes must be at least 2, got {spec.num_classes}.')
  module = models.MODELS[spec.model](
    num_classes=spec.num_classes, lowering=lowering
  )
  shapes = jax.eval_shape(
    module.init,
    jax.random.key(0),
    jax.ShapeDtypeStruct((1, *spec.image_shape), jnp.float32),
  )
  layout = masks.layout_of(shapes['params'])

  def apply(params, images):
    cast = lambda x: x.astype(DTYPES[dtype])
    params, images = jax.tree.map(cast, (params, normalise(images)))
    return module.apply({'params': params}, images).astype(jnp.float32)

  def weights():
    key = keys.words(spec.seed, keys.Purpose.WEIGHTS)
    return masks.weights(
      key, layout, kind=spec.weight_kind, gain=spec.weight_gain
    )

  options = xla.compiler_options()
  return Network(layout, apply, weights, options)
