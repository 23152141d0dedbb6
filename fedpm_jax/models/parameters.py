"""Which parameters of a Flax module are masked, and what the others are.

The rule, the same for every module:

  kernels and biases   of layers are masked, at gain / sqrt(fan-in);
  other random ones    (embeddings, position and class tokens) are masked with
                       a fan-in of 1, because a lookup has one input;
  all others           (scale and bias of a norm) stay frozen at the value that
                       the module's own initialiser gives.

A mask chooses among random weights, so it needs a parameter whose first value
is random.  Such a value comes from our own generator (`masks.weights`), as that
of a kernel does.  The module's initialiser would draw other bits with another
version of JAX.  Its scale is not taken over either, because it often counts on
training that makes the values grow, and a mask cannot.

Of a parameter that is not masked nothing is sent.  Each machine asks the module
for its value, and a fingerprint tells whether they have the same.
"""

import hashlib
import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from fedpm_jax import masks
from fedpm_jax.models import calls

# Numbers in all parameters that are not of layers, 256 MiB: they are made to be
# looked at.
MOST_OTHERS = 2**26
_MOST_NAMES = 6  # in a line


class Parameters(NamedTuple):
  """The parameters of a module, divided by the rule above.

  Attributes:
    layout: of those that are masked.
    frozen: the values of the others by their paths, float32.
  """

  layout: masks.Layout
  frozen: dict[str, np.ndarray]


def of(
  module: nn.Module,
  one: jax.ShapeDtypeStruct,
  *,
  most_others: int = MOST_OTHERS,
) -> Parameters:
  """Divides the parameters of a module.

  Args:
    module: a pure function of parameters and inputs.
    one: shape and type of a batch of one input.
    most_others: numbers in all parameters that are not of layers.

  Raises:
    ValueError: nothing can be masked, or too much is not of layers.
  """
  shapes, fan_ins = _shapes(module, one)
  others = [name for name in shapes if not _is_of_a_layer(name, shapes)]
  total = sum(math.prod(shapes[name]) for name in others)
  if total > most_others:
    raise ValueError(
      f'{type(module).__name__} has {total:,} parameters that are not kernels'
      f' or biases of layers, expected at most {most_others:,}:'
      f' {_listed(others)}.'
    )
  frozen = _frozen(module, one, others) if others else {}
  fan_ins |= {name: 1 for name in others if name not in frozen}
  masked = {name: s for name, s in shapes.items() if name not in frozen}
  if not masked:
    raise ValueError(
      f'{type(module).__name__} has nothing to mask: expected layers with a'
      f' kernel, got the parameters {_listed(shapes)}.'
    )
  return Parameters(masks.layout_of(_nested(masked), fan_ins), frozen)


def merged(params: dict[str, Any], frozen: dict[str, Any]) -> dict[str, Any]:
  """The tree of parameters that a module takes, from its two parts.

  Args:
    params: the masked ones, nested; it is not changed.
    frozen: the others, by their paths.
  """
  params = dict(params)
  inner: dict[str, dict[str, Any]] = {}
  for name, value in frozen.items():
    head, _, rest = name.partition('/')
    if rest:
      inner.setdefault(head, {})[rest] = value
    else:
      params[head] = value
  for head, values in inner.items():
    params[head] = merged(params.get(head, {}), values)
  return params


def constants(frozen: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
  """The values for a program; XLA sees it where all of one are the same.

  A norm's scale of ones is then no multiplication any more.
  """

  def constant(value: np.ndarray) -> jax.Array:
    first = value.reshape(-1)[:1]
    if first.size and (value == first).all():
      return jnp.full(value.shape, first[0])
    return jnp.asarray(value)

  return {name: constant(value) for name, value in frozen.items()}


def digest(frozen: Mapping[str, np.ndarray]) -> str:
  """16 hex digits of the SHA-256 of names, shapes and values; '' of nothing."""
  if not frozen:
    return ''
  of_all = hashlib.sha256()
  for name, value in sorted(frozen.items()):
    of_all.update(f'{name} {list(value.shape)}\n'.encode())
    of_all.update(np.ascontiguousarray(value, '<f4').tobytes())
  return of_all.hexdigest()[:16]


def told(layout: masks.Layout, frozen: Mapping[str, np.ndarray]) -> str:
  """A line about what is not a kernel or bias of a layer; '' of nothing."""
  tokens = [
    name
    for name in layout.names
    if name.rpartition('/')[2] not in ('kernel', 'bias')
  ]
  sentences = []
  if frozen:
    total = sum(value.size for value in frozen.values())
    sentences.append(
      f'Frozen at their initial values, and not among the'
      f' {layout.num_parameters:,} masked parameters: {total:,} in'
      f' {len(frozen)} tensors, {_listed(frozen)}.'
    )
  if tokens:
    sentences.append(f'Masked with a fan-in of 1: {_listed(tokens)}.')
  return ' '.join(sentences)


def _listed(names: Collection[str]) -> str:
  """Some names, and how many more there are."""
  more = len(names) - _MOST_NAMES
  return ', '.join(sorted(names)[:_MOST_NAMES]) + (
    f' and {more} more' if more > 0 else ''
  )


def _is_of_a_layer(name: str, shapes: dict[str, tuple[int, ...]]) -> bool:
  """Whether a tensor is the kernel of a layer, or the bias beside one."""
  layer, _, kind = name.rpartition('/')
  kernel = shapes.get(f'{layer}/kernel' if layer else 'kernel', ())
  return kind in ('kernel', 'bias') and len(kernel) >= 2


def _shapes(
  module: nn.Module, one: jax.ShapeDtypeStruct
) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
  """Shapes by path, and the fan-ins that a kernel's shape does not tell."""
  fan_ins, told = {}, calls.modes(module).evaluation

  def note(next_fun, args, kwargs, context):
    result = next_fun(*args, **kwargs)
    layer = context.module
    for kind, count in _FAN_INS.items():
      if isinstance(layer, kind) and layer.has_variable('params', 'kernel'):
        # Inside of `nn.scan` and `nn.vmap` this is the shape of one layer.
        kernel: Any = layer.get_variable('params', 'kernel')
        for name in ('kernel', 'bias'):
          fan_ins['/'.join((*layer.path, name))] = count(layer, kernel.shape)
    return result

  # A function of its own: JAX does not trace the same one twice, and then
  # nothing would be noted.
  init = lambda key, given: module.init(key, given, **told)['params']
  with nn.intercept_methods(note):
    params = jax.eval_shape(init, jax.random.key(0), one)
  return {name: tuple(x.shape) for name, x in _flat(params).items()}, fan_ins


def _dense_general(layer: Any, shape: tuple[int, ...]) -> int:
  """Kernels are [batch..., inputs..., outputs...], as in attention."""
  features, batch = layer.features, layer.batch_dims
  outputs = len(features) if isinstance(features, list | tuple) else 1
  return math.prod(shape[len(batch) : len(shape) - outputs])


def _all_but_the_last(layer: Any, shape: tuple[int, ...]) -> int:
  del layer
  return math.prod(shape[:-1])


def _of_one_place(layer: Any, shape: tuple[int, ...]) -> int:
  """Kernels are [height, width, inputs, outputs], one for each pixel."""
  del layer
  return shape[-2]


# The layers of Flax: (layer, shape of its kernel) -> inputs of a unit.
_FAN_INS = {
  nn.Dense: _all_but_the_last,
  nn.Conv: _all_but_the_last,
  nn.DenseGeneral: _dense_general,
  nn.ConvLocal: _of_one_place,
}


def _frozen(
  module: nn.Module, one: jax.ShapeDtypeStruct, names: list[str]
) -> dict[str, np.ndarray]:
  """The values of those tensors that do not depend on the initial key."""

  told = calls.modes(module).evaluation

  # The kernels and the inputs' way through the network are not computed.
  @jax.jit
  def values(key):
    zeros = jnp.zeros(one.shape, one.dtype)
    params = _flat(module.init(key, zeros, **told)['params'])
    return {name: params[name] for name in names}

  first, second = (
    jax.device_get(values(jax.random.key(seed))) for seed in (0, 1)
  )
  return {
    name: np.asarray(first[name], np.float32)
    for name in names
    if np.array_equal(first[name], second[name], equal_nan=True)
  }


def _flat(params: Any) -> dict[str, Any]:
  """Nested dicts as {'a/b': leaf}."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(params)
  return {
    '/'.join(str(part.key) for part in path): leaf for path, leaf in leaves
  }


def _nested(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
  """The inverse of `_flat`, with shapes as leaves."""
  leaves = {
    name: jax.ShapeDtypeStruct(shape, np.float32)
    for name, shape in shapes.items()
  }
  return merged({}, leaves)
