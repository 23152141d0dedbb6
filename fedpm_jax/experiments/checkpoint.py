"""Checkpoints of the whole state (orbax), and whether a run may go on from one.

A checkpoint holds the server's state, the clients' states, who holds which
theta and, as JSON, the next round and what determines the run.  Randomness is
derived from the seed, so that a run that was killed continues bit for bit.
"""

import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from orbax import checkpoint as orbax


class Restored(NamedTuple):
  """What a checkpoint gave back."""

  state: Any
  next_round: int


def is_due(round_idx: int, *, every: int, last: int) -> bool:
  """Whether something done every n rounds is due after round `round_idx`.

  True after each n-th round (round_idx + 1 a multiple of n) and after the last
  one; `every` = 0 leaves the last one only.
  """
  return round_idx == last or (every > 0 and (round_idx + 1) % every == 0)


class Checkpoints:
  """The checkpoints of one run, in `<workdir>/checkpoints`."""

  def __init__(self, directory: pathlib.Path, *, keep: int = 2):
    """Opens the folder; orbax clears away what a crash left unfinished."""
    self._manager = orbax.CheckpointManager(
      directory.absolute(),
      options=orbax.CheckpointManagerOptions(max_to_keep=keep, create=True),
      item_handlers={
        'state': orbax.StandardCheckpointHandler(),
        'run': orbax.JsonCheckpointHandler(),
      },
    )

  def restore(self, like: Any, config: dict[str, Any]) -> Restored | None:
    """The latest checkpoint, or None.

    Args:
      like: the state that is expected: its structure, shapes and dtypes.
      config: of this run, as `build.describe` makes it.

    Raises:
      ValueError: naming every entry in which the checkpoint's configuration
        differs, or a tensor whose shape or dtype does.
    """
    step = self._manager.latest_step()
    if step is None:
      return None
    run = self._manager.restore(
      step, args=orbax.args.Composite(run=orbax.args.JsonRestore())
    )['run']
    changes = differences(run['config'], config)
    if changes:
      raise ValueError(
        f'The checkpoint in {self._manager.directory} was written with'
        f' another config: {"; ".join(changes)}. Use the same config, or a'
        ' new --workdir.'
      )
    found = self._manager.item_metadata(step)['state']
    _check_same(like, found)
    state = self._manager.restore(
      step,
      args=orbax.args.Composite(
        state=orbax.args.StandardRestore(
          jax.tree.map(orbax.utils.to_shape_dtype_struct, like)
        )
      ),
    )['state']
    # Orbax ties them to one device; a round spreads them over all.
    state = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), state)
    return Restored(state, run['next_round'])

  def save(self, state: Any, next_round: int, config: dict[str, Any]) -> None:
    """Writes a checkpoint in the background; complete, or not there at all."""
    self._manager.save(
      next_round,
      args=orbax.args.Composite(
        state=orbax.args.StandardSave(state),
        run=orbax.args.JsonSave({'next_round': next_round, 'config': config}),
      ),
    )

  def close(self) -> None:
    """Waits for what is still being written."""
    self._manager.wait_until_finished()
    self._manager.close()


def differences(
  saved: dict[str, Any], current: dict[str, Any], prefix: str = ''
) -> list[str]:
  """Every entry in which two nested configs differ: 'key: 1 there, 2 here'."""
  changes = []
  for key in sorted(saved.keys() | current.keys()):
    name = f'{prefix}{key}'
    old, new = saved.get(key, '(absent)'), current.get(key, '(absent)')
    if isinstance(old, dict) and isinstance(new, dict):
      changes += differences(old, new, f'{name}.')
    elif old != new:
      changes.append(f'{name}: {old!r} there, {new!r} here')
  return changes


def _check_same(like: Any, found: Any) -> None:
  """Orbax casts silently: shapes and dtypes are compared before it can."""

  def describe(tree):
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
      jax.tree_util.keystr(path, simple=True, separator='.'): (
        f'{leaf.dtype}{list(leaf.shape)}'
      )
      for path, leaf in leaves
    }

  changes = differences(describe(found), describe(like))
  if changes:
    raise ValueError(
      f'The checkpoint does not fit: {"; ".join(changes)}. Use a new --workdir.'
    )
