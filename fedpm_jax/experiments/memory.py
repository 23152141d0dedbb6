"""What to try where a device has too little memory: the next smaller size."""

import contextlib
from collections.abc import Iterator

from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments.config import Config

EXHAUSTED = 'RESOURCE_EXHAUSTED'  # XLA's word for it, in its messages
# Memory of a round grows with how many clients are vectorised, then with how
# many examples each of them has; that of an evaluation with its own ones.
_TRAINING = ('execution.chunk', 'batch_size', 'evaluation.batch_size')
_EVALUATION = ('evaluation.batch_size',)
_HEAD = 'Less memory is needed with '  # tells our notes from those of JAX
_EFFECT = {
  'execution.chunk': 'fewer clients are vectorised, which makes it another run',
  'batch_size': 'the examples of a local step, which makes it another run',
  'evaluation.batch_size': 'which changes no number, so the run goes on',
}


@contextlib.contextmanager
def explained(config: Config, *, evaluates: bool = False) -> Iterator[None]:
  """Adds to an error of a device without memory what to try next.

  The error stays what it is.  The advice is a note, which Python shows below
  its traceback, and `fedpm train` in its line.

  Args:
    config: of the run.
    evaluates: whether networks are evaluated here, and no client trains.
  """
  try:
    yield
  except Exception as error:
    if EXHAUSTED in str(error):
      error.add_note(advice(config, evaluates=evaluates))
    raise


def advice(config: Config, *, evaluates: bool = False) -> str:
  """The flag to try next: the first size that can be halved.

  Args:
    config: of the run.
    evaluates: see `explained`.
  """
  for path in _EVALUATION if evaluates else _TRAINING:
    size = configs.get(config, path)
    if size > 1:
      return f'{_HEAD}--config.{path}={size // 2} instead of {size}: {_EFFECT[path]}.'
  return f'{_HEAD}another config.model alone: batches have one example already.'


def told(error: BaseException) -> str:
  """The advice that `explained` has added to an error."""
  notes = getattr(error, '__notes__', [])
  advised = [note for note in notes if note.startswith(_HEAD)]
  return ' '.join(advised) or 'Do other programs use its memory too?'
