"""A run on several hosts: host 0 leads and writes, the others follow.

Host 0 alone reads and writes the files of the run, and so it decides what is
next.  It tells the others before each step, and all of them take it.  A run on
one host leads nobody.
"""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from fedpm_jax.experiments.experiment import Experiment
from fedpm_jax.simulation.rounds import Round
from fedpm_jax.system import files
from fedpm_jax.system.hosts import HostFailed, HostLost

FOLLOWS = 'Host 0 writes the files of the run and shows how far it is.'


class Stopped(Exception):
  """The run was asked to stop, and can go on from its checkpoint."""

  def __init__(self, rounds_done: int):
    """After how many rounds."""
    super().__init__(rounds_done)
    self.rounds_done = rounds_done

  def __str__(self) -> str:
    return (
      f'Stopped after round {self.rounds_done}; the same command continues from'
      ' there.'
    )


class Leader:
  """Takes the steps of a run on all hosts."""

  def __init__(self, run: Experiment, stop: Callable[[], bool] | None):
    """Tells nobody anything yet.

    Args:
      run: of this host, which is host 0.
      stop: asked after each round, whether the run should stop.
    """
    self.run = run
    self._hosts, self._stop = run.engine.hosts, stop

  def __enter__(self) -> 'Leader':
    return self

  def __exit__(
    self, _: object, error: BaseException | None, *__: object
  ) -> None:
    # After other errors nobody is there who could be told: see `hosts.leave`.
    if isinstance(error, Stopped):
      self._tell('stop', rounds_done=error.rounds_done)
    elif isinstance(error, Exception) and not self._hosts.ended:
      with contextlib.suppress(HostLost):
        self._tell('fail', reason=f'{type(error).__name__}: {error}')

  def start(self) -> None:
    """The others start, or go on from this host's state."""
    done = self.run.next_round
    self._tell('start', next_round=done)
    if done and self._hosts.count > 1:
      self.run.set_state(self._hosts.copy(self.run.state), done)

  def run_round(self, *, keep: bool) -> Round:
    """`Experiment.run_round`, on all hosts."""
    self._tell('round', keep=keep)
    return self.run.run_round(keep=keep)

  def evaluate(self) -> dict[str, float]:
    """`Experiment.evaluate`, on all hosts."""
    self._tell('evaluate')
    return self.run.evaluate()

  def is_asked_to_stop(self) -> bool:
    """Whether any host is."""
    wishes = self._tell('go on')
    return any(wishes) or bool(self._stop and self._stop())

  def end(self, summary: dict[str, Any]) -> None:
    """The run is over, on all hosts."""
    self._tell('end', summary=files.to_json(summary))

  def _tell(self, step: str, **details: Any) -> list[bytes]:
    """Tells the others what is next; what they wish."""
    order = json.dumps({'step': step} | details).encode()
    return self._hosts.gather(order)[1:]


def follow(run: Experiment, stop: Callable[[], bool] | None) -> dict[str, Any]:
  """Takes the steps that host 0 tells of, until the run is over.

  Args:
    run: of this host, before its first round.
    stop: see `Leader`; the whole run stops if it says yes.

  Returns:
    The summary.

  Raises:
    HostLost, HostFailed: host 0, or another one, cannot go on.
    Stopped: a host was asked to stop.
  """
  hosts, wish = run.engine.hosts, b''
  with warming_up(run.warm_up) as warm_up:
    while True:
      wish = wish or (b'stop' if stop and stop() else b'')
      order = json.loads(hosts.gather(wish)[0])
      match order.pop('step'):
        case 'start':
          done = order['next_round']
          if done:
            blank = jax.tree.map(jnp.zeros_like, run.like_state())
            run.set_state(hosts.copy(blank), done)
          _ = run.state  # Made before the thread is there.
          warm_up.start()
        case 'round':
          run.run_round(keep=order['keep'])
        case 'evaluate':
          warm_up.join()
          run.evaluate()
        case 'stop':
          raise Stopped(order['rounds_done'])
        case 'fail':
          hosts.ended = True
          raise HostFailed(f'Host 0 ended with {order["reason"]}')
        case 'end':
          return order['summary']


@contextlib.contextmanager
def warming_up(*tasks: Callable[[], Any]) -> Iterator[threading.Thread]:
  """A thread that makes ready what is needed later, while XLA compiles.

  It must be joined before an evaluation, because two threads must not compute
  with all devices.  So it is joined at the end, too: after a run that failed,
  another one may follow in this process.

  Args:
    *tasks: of the thread, which the caller starts.
  """

  def work():
    for task in tasks:
      # Whatever fails here fails again, and is told of, where it is needed.
      with contextlib.suppress(Exception):
        task()

  thread = threading.Thread(target=work)
  try:
    yield thread
  finally:
    if thread.ident is not None:
      thread.join()


def check(run: Experiment) -> None:
  """ValueError where hosts were started with different configurations."""
  run.engine.hosts.check_same(
    'configuration',
    json.dumps(files.to_json(run.description), sort_keys=True).encode(),
    'Start the same command, with the same code, on all hosts.',
  )
