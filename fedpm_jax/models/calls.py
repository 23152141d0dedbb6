"""How a module of one's own is called, in evaluation and in training.

A module whose `__call__` has an argument `train` (or, with the opposite
meaning, `deterministic`) is told which of both it is.  In a local step it gets
random numbers named 'dropout', from a key of (seed, round, client, step); in
evaluation and in a loaded model file it gets none.
"""

import inspect
from typing import Any, NamedTuple

import jax
from flax import errors as flax_errors
from flax import linen as nn


class Modes(NamedTuple):
  """Keyword arguments of a module's `__call__`; both empty where it has one."""

  evaluation: dict[str, Any]
  training: dict[str, Any]


def modes(module: nn.Module) -> Modes:
  """What a module is told, read off its signature."""
  arguments = inspect.signature(module.__call__).parameters
  if 'train' in arguments:
    return Modes({'train': False}, {'train': True})
  if 'deterministic' in arguments:
    return Modes({'deterministic': True}, {'deterministic': False})
  return Modes({}, {})


def check(
  module: nn.Module, one: jax.ShapeDtypeStruct, num_classes: int
) -> None:
  """ValueError unless a module of one's own can be masked.

  Args:
    module: of one's own.
    one: shape and type of a batch of one input.
    num_classes: of the logits.
  """
  name, told = type(module).__name__, modes(module)
  key = jax.random.key(0)

  def both(key, given):
    variables = module.init(key, given, **told.evaluation)
    logits = module.apply(variables, given, **told.evaluation)
    if told.training:
      module.apply(variables, given, **told.training, rngs={'dropout': key})
    return variables, logits

  try:
    variables, logits = jax.eval_shape(both, key, one)
  except (flax_errors.FlaxError, TypeError) as error:
    reason = str(error).partition('(http')[0].strip()
    raise ValueError(
      f'{name} must be a pure function of parameters and inputs: {reason} (An'
      " argument 'train' or 'deterministic' is allowed: dropout must be off in"
      ' evaluation.)'
    ) from error
  except ValueError as error:
    if 'must be an integer' not in str(error):  # Flax says it of an nn.Embed.
      raise
    raise ValueError(
      f'{name} looks tokens up ({error}), got {one.dtype.name}: tokens are int32'
      ' in fp.Dataset, and uint8 is scaled to [-1, 1].'
    ) from error
  others = sorted(set(variables) - {'params'})
  if others or 'params' not in variables:
    raise ValueError(
      f'{name} must have parameters and nothing else, got the collections'
      f' {sorted(variables)}: what is not a parameter would not be sent. Use a'
      ' norm without running statistics, such as nn.GroupNorm or nn.LayerNorm.'
    )
  if getattr(logits, 'shape', None) != (1, num_classes):
    raise ValueError(
      f'{name} must return logits [B, num_classes = {num_classes}], got'
      f' {logits} for one input.'
    )
