"""What a person sees while a run goes on; nothing of it can stop a run."""

import contextlib
from typing import Any

import tqdm

from fedpm_jax.experiments import checkpoint
from fedpm_jax.system import text


def say(message: str) -> None:
  """Prints; a terminal that is gone, or has other letters, stops no run."""
  with contextlib.suppress(OSError, ValueError):
    print('\n'.join(map(text.printable, message.split('\n'))), flush=True)


class Progress:
  """A bar on a terminal, ten lines elsewhere, nothing where nobody asked."""

  def __init__(self, done: int, total: int, verbose: bool):
    self._total = total
    self._verbose = verbose
    self._bar = tqdm.tqdm(
      initial=done,
      total=total,
      unit='round',
      disable=None if verbose else True,
    )

  def __enter__(self) -> 'Progress':
    return self

  def __exit__(self, *_: object) -> None:
    with contextlib.suppress(OSError, ValueError):
      self._bar.close()

  def show(self, row: dict[str, Any]) -> None:
    """One more round is done."""
    if not self._verbose:
      return
    numbers = ' '.join(
      f'{label} {row[name]:.3f}'
      for label, name in (
        ('sampled', 'eval/accuracy_sampled'),
        ('mean', 'eval/accuracy_mean'),
        ('loss', 'train/loss'),
        ('up', 'uplink/bpp_wire'),
        ('down', 'downlink/bpp_wire'),
      )
      if name in row
    )
    with contextlib.suppress(OSError, ValueError):  # as in `say`
      self._bar.set_postfix_str(numbers, refresh=False)
      self._bar.update()
    every = max(1, self._total // 10)
    due = checkpoint.is_due(row['round_idx'], every=every, last=self._total - 1)
    if self._bar.disable and due:
      say(f'round {row["round_idx"] + 1:4d}  {numbers}')
