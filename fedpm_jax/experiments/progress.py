"""What a person sees while a run goes on; nothing of it can stop a run.

On a terminal it is a bar.  In a log it is a line a round or a minute, whichever
is rarer; where a round takes longer, a line a minute says what is going on.
"""

import collections
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import tqdm

from fedpm_jax.system import text

_MINUTE = 60.0
_RECENT = 20  # rounds, whose mean says how much time is left
_NUMBERS = (
  ('mean', 'eval/accuracy_mean'),
  ('sampled', 'eval/accuracy_sampled'),
  ('loss', 'train/loss'),
  ('up', 'uplink/bpp_wire'),
  ('down', 'downlink/bpp_wire'),
)


def say(message: str) -> None:
  """Prints; a terminal that is gone, or has other letters, stops no run."""
  lines = '\n'.join(map(text.printable, message.split('\n')))
  with contextlib.suppress(OSError, ValueError):
    tqdm.tqdm.write(lines)  # above the bar, if there is one
    sys.stdout.flush()


class Progress:
  """A bar on a terminal, some lines elsewhere, nothing where nobody asked."""

  def __init__(
    self,
    verbose: bool,
    *,
    minute: float = _MINUTE,
    clock: Callable[[], float] = time.monotonic,
  ):
    """Shows nothing before `with`.

    Args:
      verbose: whether anybody asked.
      minute: seconds between two lines.
      clock: seconds, from anywhere.
    """
    self._verbose, self._minute, self._clock = verbose, minute, clock
    self._bar: Any = None
    self._done = self._total = 0
    self._doing, self._since, self._told = '', clock(), clock()
    self._row_told = -float('inf')
    self._ends: collections.deque[float] = collections.deque(maxlen=_RECENT + 1)
    self._accuracies: dict[str, tuple[float, int]] = {}
    self._numbers = ''
    self._over = threading.Event()
    self._thread = threading.Thread(target=self._watch, daemon=True)

  def __enter__(self) -> 'Progress':
    if self._verbose:
      self._thread.start()
    return self

  def __exit__(self, *_: object) -> None:
    self._over.set()
    if self._thread.is_alive():
      self._thread.join()
    if self._bar is not None:
      with contextlib.suppress(OSError, ValueError):
        self._bar.close()

  def say(self, message: str) -> None:
    """Says something, where somebody asked."""
    if self._verbose:
      self._told = self._clock()
      say(message)

  def doing(self, what: str, *, aloud: bool = False) -> None:
    """What goes on from now on.

    Args:
      what: such as 'reading the data'.
      aloud: whether a log says so at once, and not after a minute only.
    """
    self._doing, self._since = what, self._clock()
    if aloud and not self._is_bar:
      self.say(f'{what[:1].upper()}{what[1:]}.')

  def rounds(self, done: int, total: int) -> None:
    """The rounds begin.

    Args:
      done: how many were done before.
      total: of the whole run.
    """
    self._done, self._total = done, total
    if not self._verbose:
      return
    with contextlib.suppress(OSError, ValueError):
      self._bar = _bar(done, total)

  def show(self, row: dict[str, Any]) -> None:
    """One more round is done."""
    if not self._verbose:
      return
    now, t = self._clock(), row['round_idx']
    self._ends.append(now)
    self._done = t + 1
    self._numbers = self._shown(row)
    if self._is_bar:
      self._refresh()
    elif (
      len(self._ends) == 1
      or t == self._total - 1
      or now - self._row_told >= self._minute
    ):
      self._row_told = now
      self.say(self._line())

  @property
  def _is_bar(self) -> bool:
    return self._bar is not None and not self._bar.disable

  def _shown(self, row: dict[str, Any]) -> str:
    """The numbers of a row; of accuracies the last ones that are known."""
    shown, t = [], row['round_idx']
    for label, name in _NUMBERS:
      if name.startswith('eval/'):
        if row.get(name) is not None:
          self._accuracies[name] = row[name], t
        if name not in self._accuracies:
          continue
        value, when = self._accuracies[name]
        after = '' if when == t else f' (round {when + 1})'
        shown.append(f'{label} {value:.3f}{after}')
      elif row.get(name) is not None:
        shown.append(f'{label} {row[name]:.3f}')
    return '  '.join(shown)

  def _left(self) -> str:
    """About how much time is left; the first round has compiled."""
    ends, rounds_left = self._ends, self._total - self._done
    if len(ends) < 2 or not rounds_left:
      return ''
    each = (ends[-1] - ends[0]) / (len(ends) - 1)
    return f'{text.duration(each * rounds_left)} left'

  def _line(self) -> str:
    parts = [
      f'round {self._done} of {self._total}',
      self._numbers,
      self._left(),
    ]
    return '  '.join(filter(None, parts))

  def _watch(self) -> None:
    """Until the end: a line a minute where nothing else was said."""
    while not self._over.wait(min(1.0, self._minute / 4)):
      now = self._clock()
      if self._is_bar:
        self._refresh()
      elif self._doing and now - self._told >= self._minute:
        self.say(f'... {self._doing}, for {text.duration(now - self._since)}')

  def _refresh(self) -> None:
    """The bar as it is now; the time that has passed goes on by itself."""
    shown = [self._left(), self._numbers]
    if self._clock() - self._since >= 2:  # Else nobody can read it.
      shown.append(self._doing)
    with contextlib.suppress(OSError, ValueError):
      self._bar.n = self._done
      self._bar.set_postfix_str(', '.join(filter(None, shown)), refresh=True)


def _bar(done: int, total: int) -> Any:
  """The bar, on stderr; disabled where that is no terminal."""
  size: dict[str, Any] = {'dynamic_ncols': True}
  with contextlib.suppress(OSError, ValueError, AttributeError):
    # A terminal that does not know its size, where tqdm would show no bar.
    if not all(os.get_terminal_size(sys.stderr.fileno())):
      size = {'ncols': 100, 'nrows': 20}
  return tqdm.tqdm(
    initial=done,
    total=total,
    disable=None,
    bar_format='{n_fmt}/{total_fmt} |{bar:10}| {elapsed}{postfix}',
    **size,
  )
