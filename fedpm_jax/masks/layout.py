"""Where tensors lie in a network's flat vector of parameters.

A message, and all that a server believes, is flat, `[d]`, in the order of the
layout.  A client trains the tree of its tensors (`unravel`), because every step
needs them one by one.  When they were cut from one long vector and joined
again, they went through memory three times as often, and a step of CONV-10 took
half as long again on a GPU.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedpm_jax.system import xla


class Layout(NamedTuple):
  """Where the L tensors of a network lie in its flat vector of d parameters.

  Attributes:
    names: paths such as 'conv_0/kernel', in flat order.
    shapes: of the tensors, in the same order.
    fan_ins: of the tensors: how many inputs a unit of the layer has.  A bias
      has the fan-in of its kernel.
  """

  names: tuple[str, ...]
  shapes: tuple[tuple[int, ...], ...]
  fan_ins: tuple[int, ...]

  @property
  def sizes(self) -> tuple[int, ...]:
    """How many parameters each tensor has."""
    return tuple(math.prod(shape) for shape in self.shapes)

  @property
  def num_parameters(self) -> int:
    """The number d of all parameters."""
    return sum(self.sizes)


def layout_of(
  params: Any, fan_ins: Mapping[str, int] = MappingProxyType({})
) -> Layout:
  """The layout of a tree of parameters (arrays or shapes) of a Flax module.

  Args:
    params: nested dicts whose leaves have a `shape`.
    fan_ins: of tensors by their paths.  Without an entry, a tensor must be the
      `kernel` `[..., inputs, outputs]` of a layer, or the `bias` beside one.

  Returns:
    The layout, tensors sorted by path.

  Raises:
    ValueError: a tensor is none of these.  Its fan-in, and so the scale of its
      frozen weights, would be a guess.
  """
  leaves, _ = jax.tree_util.tree_flatten_with_path(params)
  shapes = {
    '/'.join(str(part.key) for part in path): tuple(leaf.shape)
    for path, leaf in leaves
  }

  def fan_in(name: str) -> int:
    if name in fan_ins:
      return fan_ins[name]
    layer, slash, kind = name.rpartition('/')
    kernel = shapes.get(f'{layer}{slash}kernel', ())
    if kind not in ('kernel', 'bias') or len(kernel) < 2:
      raise ValueError(
        f'Cannot tell the fan-in of {name!r} {shapes[name]}: expected layers of'
        " a 'kernel' [..., inputs, outputs] and a 'bias' [outputs], or an entry"
        ' in fan_ins.'
      )
    return math.prod(kernel[:-1])

  return Layout(
    tuple(shapes), tuple(shapes.values()), tuple(fan_in(n) for n in shapes)
  )


def split(layout: Layout, flat: Any) -> list[Any]:
  """Cuts a flat vector `[d]` into its L flat tensors."""
  cuts = np.cumsum(layout.sizes)[:-1]
  return [flat[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]


def unravel(layout: Layout, flat: jax.Array) -> dict[str, Any]:
  """A flat vector `[d]` as the nested dict of parameters that a model takes."""
  params: dict[str, Any] = {}
  for name, shape, part in zip(
    layout.names, layout.shapes, split(layout, flat), strict=True
  ):
    *layers, leaf = name.split('/')
    node = params
    for layer in layers:
      node = node.setdefault(layer, {})
    node[leaf] = part.reshape(shape)
  return params


def ravel(layout: Layout, params: Any) -> jax.Array:
  """The inverse of `unravel`: nested dict of parameters to flat `[d]`."""
  flat = []
  for name, shape in zip(layout.names, layout.shapes, strict=True):
    leaf = params
    for part in name.split('/'):
      leaf = leaf[part]
    # Materialise before reshaping: if the two are fused, each element
    # recomputes its row index.
    leaf = xla.computed_once(leaf)
    flat.append(leaf.reshape(math.prod(shape)))
  return concatenated(flat)


def concatenated(parts: list[jax.Array]) -> jax.Array:
  """One vector `[d]` of flat parts, as a plain copy.

  XLA's CPU backend fuses what comes before and after into the concatenation,
  and then has to find for every single element the part it belongs to.  Without
  the barriers this took a quarter of a training step of the small 'cnn'.
  """
  return xla.computed_once(jnp.concatenate(xla.computed_once(parts)))
