"""What is asked of parts of one's own, and what tells one from another.

A part is called by the name of its function or class, which stays when the code
or a constant of it changes.  So its code has a checksum, and a run does not go
on with another one.
"""

import functools
import hashlib
import inspect
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from fedpm_jax.models import network as networks
from fedpm_jax.system import text


def digest(thing: Any) -> str:
  """Eight hex digits of a function, of a module, or of what is made of them.

  They follow from the source of each function, its defaults and the values that
  it has from the functions around it, and of a module from the source of its
  class and its fields.  What is called by a global name is not looked into.

  Args:
    thing: an `Algorithm`, a `Compressor`, a function that makes one, or a Flax
      module.
  """
  return hashlib.sha256(_text(thing, set()).encode()).hexdigest()[:8]


def _text(thing: Any, seen: set[int]) -> str:
  if isinstance(thing, functools.partial):
    return _text((thing.func, thing.args, thing.keywords), seen)
  if isinstance(thing, dict):
    items = sorted(thing.items(), key=lambda item: str(item[0]))
    return _text(items, seen)
  if isinstance(thing, list | tuple):
    return f'({", ".join(_text(part, seen) for part in thing)})'
  if isinstance(thing, nn.Module):
    return f'{networks.described(thing)} {_source(type(thing))}'
  # A function that JAX has jitted, or that is bound to an object.
  for name in ('__wrapped__', '__func__'):
    if not isinstance(thing, types.FunctionType):
      thing = getattr(thing, name, thing)
  if not isinstance(thing, types.FunctionType):
    return networks.described(thing)
  if id(thing) in seen:  # It is in its own closure.
    return thing.__qualname__
  seen.add(id(thing))
  parts = (thing.__defaults__, thing.__kwdefaults__, _closure(thing))
  return f'{_source(thing)} {_text(parts, seen)}'


def _source(thing: types.FunctionType | type) -> str:
  """The text; of a function without one, such as of `exec`, its bytecode."""
  try:
    return inspect.getsource(thing)
  except (OSError, TypeError):
    if isinstance(thing, type):
      functions = filter(inspect.isfunction, vars(thing).values())
      # Flax wraps the methods of a module.
      return ' '.join(_source(inspect.unwrap(f)) for f in functions)
    code = thing.__code__
    constants = [c for c in code.co_consts if not inspect.iscode(c)]
    inner = [c.co_code.hex() for c in code.co_consts if inspect.iscode(c)]
    return f'{code.co_code.hex()} {constants} {inner}'


def _closure(function: types.FunctionType) -> list[Any]:
  """The values that it has from the functions around it."""
  found = []
  for cell in function.__closure__ or ():
    try:
      found.append(cell.cell_contents)
    except ValueError:  # It is not set yet.
      found.append(None)
  return found


def check_made(thing: Any, kind: type) -> None:
  """ValueError unless a row, or a function of one's own, has made its kind."""
  if not isinstance(thing, kind):
    name, got = kind.__name__, text.one_line(text.short(thing))
    raise ValueError(f'The {name.lower()} must be of type {name}, got {got}.')


def check_optimizer(
  transformation: optax.GradientTransformation, name: str
) -> None:
  """ValueError unless an update needs gradients and parameters alone."""
  if not isinstance(transformation, optax.GradientTransformation):
    raise ValueError(
      f'{name} must make an optax.GradientTransformation, got a'
      f' {type(transformation).__name__}.'
    )

  def one_step(params):
    state = transformation.init(params)
    return transformation.update(params, state, params)[0]

  try:
    # Shapes only: an array would start JAX before it knows its devices.
    scores = jax.ShapeDtypeStruct((2,), jnp.float32)
    jax.eval_shape(one_step, {'scores': scores})
  except (TypeError, KeyError, ValueError) as error:
    reason = str(error).splitlines()[0].rstrip('.')
    raise ValueError(
      f'{name} needs more than gradients, which is all that local training has:'
      f' {reason}. Use adam or sgd, for example.'
    ) from error


def first_steps(transformation: optax.GradientTransformation) -> str:
  """What an optimiser does first, which tells most of them apart.

  An optax transformation is two functions without a name of its own.
  """
  floats = lambda *values: np.array(values, np.float32)
  params, steps = floats(1, -2), []
  state = transformation.init(params)
  for gradient in (floats(1, 0.5), floats(1, -3), floats(0.25, 2)):
    updates, state = transformation.update(gradient, state, params)
    steps += [f'{x:.3g}' for x in np.asarray(updates).tolist()]
  return f'steps {" ".join(steps)}'
