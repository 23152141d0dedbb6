"""A model and its frozen weights, from a few numbers.

The specification below is all that a client, a server or a model file
(`protocol.model_file`) needs to rebuild the random network: the weights follow
from the seed.
"""

import dataclasses
import functools
import math
import zlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from fedpm_jax import masks, models
from fedpm_jax.models import calls, inputs, layers, parameters
from fedpm_jax.models import lowering as lowerings
from fedpm_jax.prng import keys
from fedpm_jax.system import xla

DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


class Spec(NamedTuple):
  """What determines a random network to the bit.

  Attributes:
    model: a key of `models.MODELS`, or how a module of one's own prints.
    image_shape: of one input, (H, W, C) of an image.
    num_classes: the number of logits.
    seed: of the frozen weights, in [0, 2^32).
    weight_kind: a key of `masks.WEIGHTS`.
    weight_gain: their standard deviation is gain / sqrt(fan_in).
    value_range: the range that float inputs are scaled from; None: inputs are
      uint8, or `unscaled`.
    unscaled: the type of inputs that the module gets as they are, 'float32'
      (rows of a table) or 'int32' (tokens); '' where they are scaled.
  """

  model: str
  image_shape: tuple[int, ...]
  num_classes: int
  seed: int
  weight_kind: str
  weight_gain: float
  value_range: tuple[float, float] | None = None
  unscaled: str = ''


class Network(NamedTuple):
  """A model and its frozen weights, as algorithms see it.

  Attributes:
    layout: where its parameters lie in the flat vector.
    apply: (params as nested dict, inputs `[B, ...]`) -> logits `[B, classes]`;
      inputs are as in the data set, not yet scaled.
    weights: () -> frozen weights `[d]`, regenerated at every call.
    compiler_options: for the outermost `jax.jit` around the two.
    frozen: the parameters that are not masked, by their paths; `apply` knows
      them.  See `models.parameters`.
    dropping: (key, params, inputs) -> logits, where the module does something
      else in training than in evaluation, see `models.calls`; None where not.
  """

  layout: masks.Layout
  apply: Callable[[Any, jax.Array], jax.Array]
  weights: Callable[[], jax.Array]
  compiler_options: dict[str, str]
  frozen: Mapping[str, np.ndarray] = MappingProxyType({})
  dropping: Callable[[jax.Array, Any, jax.Array], jax.Array] | None = None

  def in_training(
    self, step_key: jax.Array
  ) -> Callable[[Any, jax.Array], jax.Array]:
    """`apply` for one local step.

    Args:
      step_key: of (seed, round, client, step); masks may be drawn from it too.
    """
    if self.dropping is None:
      return self.apply
    key = jax.random.fold_in(step_key, int(keys.Purpose.DROPOUT))
    return functools.partial(self.dropping, key)


def build(
  spec: Spec,
  *,
  module: nn.Module | None = None,
  lowering: str = 'auto',
  dtype: str = 'float32',
  most_others: int = parameters.MOST_OTHERS,
) -> Network:
  """The network of a specification; no weights are made before they are used.

  Args:
    spec: see `Spec`.
    module: a Flax module of one's own, in place of the one that the
      specification names: inputs `[B, ...]`, float32 in [-1, 1] or as
      `Spec.unscaled` has them, to logits `[B, num_classes]`; see
      `models.calls`.
    lowering: how convolutions are computed, those of `nn.Conv` in a module of
      one's own too; see `models.lowering` and `models.layers`.
    dtype: the type of activations and matrix products, a key of `DTYPES`.
      Parameters and scores are float32 in any case, and logits are returned as
      float32.  Rounding to bfloat16 changes the masked weights of a
      sign-constant network, which are +-c or 0, only by a factor that is common
      to a layer.
    most_others: see `parameters.of`.

  Returns:
    The network.

  Raises:
    ValueError: a field is unknown or out of its range; the message names it.
  """
  if dtype not in DTYPES:
    raise ValueError(f'dtype must be one of {list(DTYPES)}, got {dtype!r}.')
  lowering = lowerings.resolve(lowering, dtype=dtype)
  _check(spec)
  one = inputs.given(spec.image_shape, spec.unscaled)
  if module is None:
    module = _named(spec, lowering)
  else:
    calls.check(module, one, spec.num_classes)
  layout, frozen = parameters.of(module, one, most_others=most_others)

  def cast(x: jax.Array) -> jax.Array:
    is_float = jnp.issubdtype(x.dtype, jnp.floating)  # Tokens stay integers.
    return x.astype(DTYPES[dtype]) if is_float else x

  def call(params: Any, given: jax.Array, **options: Any) -> jax.Array:
    scaled = inputs.normalise(given, spec.value_range, spec.unscaled)
    params = parameters.merged(params, parameters.constants(frozen))
    params, scaled = jax.tree.map(cast, (params, scaled))
    with layers.lowered(lowering):
      logits: Any = module.apply({'params': params}, scaled, **options)
    return logits.astype(jnp.float32)

  modes = calls.modes(module)

  def apply(params: Any, given: jax.Array) -> jax.Array:
    return call(params, given, **modes.evaluation)

  def dropping(key: jax.Array, params: Any, given: jax.Array) -> jax.Array:
    return call(params, given, **modes.training, rngs={'dropout': key})

  def weights() -> jax.Array:
    key = keys.words(spec.seed, keys.Purpose.WEIGHTS)
    return masks.weights(
      key, layout, kind=spec.weight_kind, gain=spec.weight_gain
    )

  return Network(
    layout,
    apply,
    weights,
    xla.compiler_options(),
    frozen,
    dropping if modes.training else None,
  )


def described(thing: Any) -> str:
  """An object of one's own in a line that is the same in every process.

  A Flax module by its class and fields, a function by its name, a partial
  function by its arguments too, an array by a checksum.
  """
  if isinstance(thing, nn.Module):
    fields = {
      field.name: getattr(thing, field.name)
      for field in dataclasses.fields(thing)
      if field.init and field.name not in ('parent', 'name')
    }
    return f'{type(thing).__name__}({_listed(fields)})'
  if isinstance(thing, functools.partial):
    positional = {str(i): value for i, value in enumerate(thing.args)}
    arguments = _listed(positional | thing.keywords)
    return f'{described(thing.func)}({arguments})'
  if isinstance(thing, dict):
    return f'{{{_listed(thing)}}}'
  if isinstance(thing, list | tuple):
    return f'({", ".join(map(described, thing))})'
  if isinstance(thing, np.ndarray | jax.Array):
    data = np.ascontiguousarray(thing).tobytes()
    return f'array({zlib.crc32(data):08x})'
  if thing is None or isinstance(thing, bool | int | float | str):
    return repr(thing)
  return getattr(thing, '__qualname__', type(thing).__name__)


def _listed(values: dict[str, Any]) -> str:
  return ', '.join(f'{name}={described(x)}' for name, x in values.items())


def _named(spec: Spec, lowering: str) -> nn.Module:
  """The module of a row of `models.MODELS`."""
  if spec.model not in models.MODELS:
    raise ValueError(
      f'model must be one of {sorted(models.MODELS)}, got {spec.model!r}.'
    )
  return models.MODELS[spec.model](
    num_classes=spec.num_classes, lowering=lowering
  )


def _check(spec: Spec) -> None:
  """ValueError naming the first number that cannot be meant."""
  if spec.weight_kind not in masks.WEIGHTS:
    raise ValueError(
      f'weights.kind must be one of {sorted(masks.WEIGHTS)}, got'
      f' {spec.weight_kind!r}.'
    )
  if not (math.isfinite(spec.weight_gain) and spec.weight_gain > 0):
    raise ValueError(
      f'weights.gain must be positive and finite, got {spec.weight_gain}.'
    )
  if spec.value_range is not None:
    low, high = spec.value_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
      raise ValueError(
        f'value_range must be (low, high), got {spec.value_range}.'
      )
  if spec.unscaled not in ('', *inputs.UNSCALED) or (
    spec.unscaled and spec.value_range is not None
  ):
    raise ValueError(
      f"unscaled must be one of {inputs.UNSCALED}, without a value_range, or '',"
      f' got {spec.unscaled!r} with value_range = {spec.value_range}.'
    )
  if not 0 <= spec.seed < 2**32:
    raise ValueError(f'seed must lie in [0, 2^32), got {spec.seed}.')
  if spec.num_classes < 2:
    raise ValueError(f'num_classes must be at least 2, got {spec.num_classes}.')
