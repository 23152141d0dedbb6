"""What a network is given: images scaled to [-1, 1], or rows and tokens as is.

How inputs are scaled belongs to the data set, and travels in the specification
of the network (`models.network.Spec`), so that a model file scales them alike.
"""

import jax
import jax.numpy as jnp
import numpy as np

# Types that a module gets as they are.
UNSCALED = ('float32', 'int32')


def kind(dtype: np.dtype, value_range: tuple[float, float] | None) -> str:
  """The field `unscaled` of a `Spec`, for inputs of this type and range."""
  return '' if dtype == np.uint8 or value_range is not None else dtype.name


def dtype_of(value_range: tuple[float, float] | None, unscaled: str) -> str:
  """The type of a data set's inputs."""
  return unscaled or ('uint8' if value_range is None else 'float32')


def given(shape: tuple[int, ...], unscaled: str) -> jax.ShapeDtypeStruct:
  """What a module is called with for a batch of one, after `normalise`.

  Args:
    shape: of one input.
    unscaled: see `normalise`.
  """
  return jax.ShapeDtypeStruct((1, *shape), np.dtype(unscaled or 'float32'))


def normalise(
  inputs: jax.Array,
  value_range: tuple[float, float] | None = None,
  unscaled: str = '',
) -> jax.Array:
  """Inputs as the module takes them: float32 in [-1, 1], or as they are.

  Args:
    inputs: uint8, scaled as (x / 255 - 0.5) / 0.5; or float32; or int32.
    value_range: of floats that are scaled from it; None for all others.
    unscaled: one of `UNSCALED`, or '' where inputs are scaled.
  """
  if unscaled:
    return inputs
  if value_range is None:
    return inputs.astype(jnp.float32) * (2 / 255) - 1
  low, high = value_range
  return (inputs - low) * (2 / (high - low)) - 1


def check_images(x: jax.Array, least: int = 1) -> None:
  """ValueError unless these are images; for models that take nothing else.

  Args:
    x: what a model was called with.
    least: height and width, at least.
  """
  check_floats(x)
  if x.ndim == 4 and min(x.shape[1:3]) >= least:
    return
  size = f' with H and W at least {least}' if least > 1 else ''
  hint = ''
  if x.ndim == 3:
    hint = ' Add the channels with x[..., None].'
  elif x.ndim != 4:
    hint = " Rows of a table go into the model 'lenet', or one of your own."
  raise ValueError(
    f'This model takes images [B, H, W, C]{size}, got inputs of the shape'
    f' {_shape(x)}.{hint}'
  )


def check_floats(x: jax.Array) -> None:
  """ValueError for tokens; for models that cannot look them up."""
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise ValueError(
      f'This model takes no tokens, got {x.dtype.name} inputs of the shape'
      f' {_shape(x)}: give a module of your own, which has an nn.Embed.'
    )


def _shape(x: jax.Array) -> str:
  return f'[{", ".join(map(str, ("B", *x.shape[1:])))}]'
