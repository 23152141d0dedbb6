"""Masks over frozen random weights: layouts, theta, sampling, gradients.

A network of d parameters is never stored.  Its weights are a pure function of
(seed, tensor path, shape); what is learned is a probability theta in (0, 1) for
each of them, and what a client sends is a mask m ~ Bernoulli(theta).  Models
know nothing of this: `params = unravel(layout, weights * mask)`.

A message, and all that a server believes, is flat, `[d]`, in the order of the
layout.  A client trains the tree of its tensors (`unravel`), since every step
needs them as such: cut from one long vector and joined again, they went through
memory three times as often (a GPU's step of CONV-10 took half as long again).

Theta crosses the wire, and enters every sampler that another machine must
reproduce, as the integer `q`, uint16, theta = q / 65536, 1 <= q <= 65535.

Dimensions: d maskable parameters, L tensors.
"""

import math
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedpm_jax import barriers, dithers, keys, threefry

SCALE = 65536  # theta = q / SCALE
Q_MIN, Q_MAX = 1, SCALE - 1


class Layout(NamedTuple):
  """Where the L tensors of a network lie in its flat vector of d parameters.

  Attributes:
    names: paths such as 'conv_0/kernel', in flat order.
    shapes: their shapes.
    fan_ins: inputs of a unit of the tensor's layer; a bias has its kernel's.
  """

  names: tuple[str, ...]
  shapes: tuple[tuple[int, ...], ...]
  fan_ins: tuple[int, ...]

  @property
  def sizes(self) -> tuple[int, ...]:
    return tuple(math.prod(shape) for shape in self.shapes)

  @property
  def num_parameters(self) -> int:
    return sum(self.sizes)


def layout_of(params: Any) -> Layout:
  """The layout of a tree of parameters (arrays or shapes) of a Flax module.

  Args:
    params: nested dicts whose leaves have a `shape`; in every layer a `kernel`
      `[..., inputs, outputs]` and perhaps a `bias` `[outputs]`.

  Returns:
    The layout, tensors sorted by path.

  Raises:
    ValueError: if a tensor is neither a kernel nor the bias of one, since its
      fan-in, and so the scale of its frozen weights, would be a guess.
  """
  leaves, _ = jax.tree_util.tree_flatten_with_path(params)
  shapes = {
    '/'.join(str(part.key) for part in path): tuple(leaf.shape)
    for path, leaf in leaves
  }
  fan_ins = []
  for name, shape in shapes.items():
    layer, _, kind = name.rpartition('/')
    kernel = shapes.get(f'{layer}/kernel', ())
    if kind not in ('kernel', 'bias') or len(kernel) < 2:
      raise ValueError(
        f'Cannot tell the fan-in of {name!r} {shape}: expected layers of a'
        " 'kernel' [..., inputs, outputs] and a 'bias' [outputs]. Exclude"
        ' other parameters from the masked network.'
      )
    fan_ins.append(math.prod(kernel[:-1]))
  return Layout(tuple(shapes), tuple(shapes.values()), tuple(fan_ins))


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
    # Computed in its own shape: flat, every element would ask for its row.
    leaf = barriers.on_cpu(leaf)
    flat.append(leaf.reshape(math.prod(shape)))
  return concatenated(flat)


def concatenated(parts: list[jax.Array]) -> jax.Array:
  """One vector, as a plain copy.

  XLA's CPU backend fuses what comes before and after into the concatenation,
  and then asks for every single element which part it belongs to: without the
  barriers this was a quarter of a training step of the small 'cnn'.
  """
  return barriers.on_cpu(jnp.concatenate(barriers.on_cpu(parts)))


# Frozen weights -------------------------------------------------------------


_BLOCK = 2048  # weights drawn from one key


def _signs(draw: Callable[..., jax.Array]) -> jax.Array:
  """Fair signs, as float32: one random bit each."""
  words = draw(_BLOCK // 32, jnp.uint32)
  shifts = jnp.arange(32, dtype=jnp.uint32).reshape(1, 1, 32)
  bits = (words[:, :, None] >> shifts) & 1
  return 2.0 * bits.reshape(-1, _BLOCK).astype(jnp.float32) - 1.0


def _uniform(draw: Callable[..., jax.Array]) -> jax.Array:
  """The odd integers from -65535 to 65535, equally likely, as float32."""
  return 2.0 * draw(_BLOCK, jnp.uint16).astype(jnp.float32) - 65535.0


def _normal(draw: Callable[..., jax.Array]) -> jax.Array:
  """Standard normal, by its 2^16 quantiles: a table, the same everywhere."""
  from scipy import special  # 0.2 s, and only this kind needs it.

  quantiles = special.ndtri((np.arange(65536) + 0.5) / 65536)
  bits = draw(_BLOCK, jnp.uint16).astype(jnp.int32)
  return jnp.asarray(quantiles.astype(np.float32))[bits]


# kind: (what is drawn, the factor that gives it unit variance)
WEIGHTS = {
  'signed_constant': (_signs, 1.0),
  'uniform': (_uniform, math.sqrt(3) / 65536),
  'normal': (_normal, 1.0),
}


def weights(
  key: np.ndarray,
  layout: Layout,
  *,
  kind: str = 'signed_constant',
  gain: float = math.e,
) -> jax.Array:
  """The frozen weights, regenerated wherever they are needed.

  A tensor's weights depend on the key, its path and its size alone, so that
  adding a layer leaves the others as they are.  Their standard deviation is
  c = gain / sqrt(fan_in): gain = e in the official code of FedPM, sqrt(2)
  (Kaiming) in its paper.  Integer bits decide everything, so every machine
  that runs the pinned generator regenerates the same network.

  Args:
    key: `keys.words(seed, keys.Purpose.WEIGHTS)`.
    layout: of the network.
    kind: 'signed_constant' (+-c), 'uniform' on (-c sqrt(3), c sqrt(3)) or
      'normal'.
    gain: see above.

  Returns:
    float32 `[d]`.
  """
  draw_kind, unit = WEIGHTS[kind]
  # All tensors are cut into blocks, and all blocks are drawn at once: the
  # generator is compiled once instead of once a tensor.
  blocks = [-(-size // _BLOCK) for size in layout.sizes]
  tensors = [zlib.crc32(name.encode()) for name in layout.names]
  block_keys = threefry.fold_in(
    threefry.fold_in(key, np.repeat(np.array(tensors, np.uint32), blocks)),
    np.concatenate([np.arange(n, dtype=np.uint32) for n in blocks]),
  )

  def draw(count, dtype):
    bits = lambda key: jax.random.bits(key, (count,), dtype)
    return jax.vmap(bits)(keys.wrap(block_keys))

  # One float multiplication: a compiler may not round it in another way.
  scales = [unit * gain / math.sqrt(fan_in) for fan_in in layout.fan_ins]
  scales = np.repeat(np.array(scales, np.float32), blocks)
  # Drawn once: XLA would fuse a copy of the generator into every slice below,
  # each of which takes it as long to compile as the first.
  drawn = lax.optimization_barrier(draw_kind(draw) * scales[:, None])
  parts, start = [], 0
  for size, count in zip(layout.sizes, blocks, strict=True):
    parts.append(drawn[start : start + count].reshape(-1)[:size])
    start += count
  return concatenated(parts)


# Theta ----------------------------------------------------------------------


def quantise(theta: jax.Array) -> jax.Array:
  """theta float32 in [0, 1] to q uint16: nearest, clipped to [1, 65535]."""
  return jnp.clip(jnp.round(theta * SCALE), Q_MIN, Q_MAX).astype(jnp.uint16)


def theta_of(q: jax.Array) -> jax.Array:
  """theta = q / 65536, exact in float32."""
  return q.astype(jnp.float32) * np.float32(1 / SCALE)


def scores_of(q: jax.Array) -> jax.Array:
  """The scores, logit(theta), float32, finite since 1 <= q <= 65535."""
  q = q.astype(jnp.float32)
  return jnp.log(q) - jnp.log(SCALE - q)


def sample(key: jax.Array, q: Any) -> Any:
  """A mask m = [u < q] ~ Bernoulli(q / 65536), from integers.

  Args:
    key: a typed key.
    q: uint16 `[d]`, or the tree of such a vector (`unravel`).

  Returns:
    bool, of the same shape; a tree's is the vector's, cut in the same way.
  """
  tensors, tree = jax.tree.flatten(q)
  ends = np.cumsum([tensor.size for tensor in tensors])
  drawn = dithers.bits16(key, int(ends[-1]))
  parts = [
    drawn[end - tensor.size : end].reshape(tensor.shape) < tensor
    for tensor, end in zip(tensors, ends, strict=True)
  ]
  # Compared once, and not again in every later use of the mask.
  return barriers.on_cpu(jax.tree.unflatten(tree, parts))


# Straight-through estimators ------------------------------------------------

ESTIMATORS = {
  # Bengio et al. 2013, Zhou et al. 2019 and the FedPM paper: the sampling
  # passes the gradient on as it is; what remains is d theta / d scores.
  'identity': lambda theta: theta * (1 - theta),
  # The official code multiplies by theta once more.
  'official': lambda theta: theta * theta * (1 - theta),
}


def scores_gradient(
  params_gradient: Any,
  weights: Any,
  theta: Any,
  *,
  estimator: str = 'identity',
) -> Any:
  """The gradient of the loss by the scores, straight through the sampling.

  The network saw params = weights * mask with mask ~ Bernoulli(theta) and
  theta = sigmoid(scores), so

      d loss / d scores = d loss / d params * weights * estimator(theta).

  Args:
    params_gradient: `[d]`, or a tree of tensors, as the other two.
    weights: frozen.
    theta: between 0 and 1.
    estimator: a key of `ESTIMATORS`.

  Returns:
    float32, of the same shape.
  """

  def of_tensor(gradient, weights, theta):
    # Once, and not again in each of the optimiser's updates that need it.
    return barriers.on_cpu(gradient * weights * ESTIMATORS[estimator](theta))

  return jax.tree.map(of_tensor, params_gradient, weights, theta)


class Network(NamedTuple):
  """A model and its frozen weights, as algorithms see it.

  Attributes:
    layout: of its parameters.
    apply: (params as nested dict, images uint8 `[B, H, W, C]`) -> logits
      `[B, classes]`.
    weights: () -> frozen weights `[d]`, regenerated at every call.
    compiler_options: for the outermost `jax.jit` around the two.
  """

  layout: Layout
  apply: Callable[[Any, jax.Array], jax.Array]
  weights: Callable[[], jax.Array]
  compiler_options: dict[str, str]
