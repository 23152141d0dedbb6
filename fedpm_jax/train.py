"""One run: `python -m fedpm_jax.train --config=... --workdir=...`.

Without a flag it trains FedPM on the embedded digits.  A second start of the
same command continues where the first one was, even after `kill -9`.
"""

from fedpm_jax.system import allocator

if __name__ == '__main__':
  allocator.restart_with_huge_pages()

import os
import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from fedpm_jax.experiments.run import train
from fedpm_jax.system import machine

DEFAULT_CONFIG = pathlib.Path(__file__).parent.parent / 'configs' / 'digits.py'


# What a user can cause; anything else is a bug, and shows its place.
_MISTAKES = (ValueError, OSError, FloatingPointError)


def main() -> None:
  """Parses the flags and runs; a mistake of the user is one line."""
  logging.set_verbosity(logging.WARNING)  # Orbax tells all that it does.
  machine.keep_compiled_programs()
  try:
    # Defining the flag already reads the default file and its overrides.
    config_flag = config_flags.DEFINE_config_file(
      'config', str(DEFAULT_CONFIG), 'The experiment.', lock_config=True
    )
    workdir = flags.DEFINE_string(
      'workdir', None, 'Where to write; runs/<config> by default.'
    )

    def run(argv):
      if len(argv) > 1:
        raise ValueError(f'Unexpected arguments: {argv[1:]}; see --help.')
      path = config_flags.get_config_filename(flags.FLAGS['config'])
      # A file's argument says more than its name: configs/methods.py:drive.
      file, _, argument = path.partition(':')
      name = argument or pathlib.Path(file).stem
      train(config_flag.value, workdir.value or pathlib.Path('runs') / name)

    app.run(run)
  except _MISTAKES as error:
    if os.environ.get('FEDPM_TRACEBACK'):
      raise
    sys.exit(f'error: {error} (FEDPM_TRACEBACK=1 shows where)')
  except AttributeError as error:
    # An override of a key that is not there; else it is a bug of ours.
    if not isinstance(error.__context__, KeyError):
      raise
    sys.exit(
      f'error: config has no key {error}; fedpm_jax/config.py lists them all.'
    )


if __name__ == '__main__':
  main()
