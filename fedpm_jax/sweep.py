"""Many runs: `python -m fedpm_jax.sweep --config=configs/sweeps/comparison.py`.

A sweep's file is Python with a function `get_sweep() -> list[sweep.Run]`.  Every
run is one of `fedpm_jax.train` in a folder of its own, named by its labels, for
example `runs/comparison/digits/fedpm/iid/1/seed_0`.  A second start of the same
command leaves the finished runs alone and continues the others; a run that
fails is listed at the end, and the others go on.  `python -m fedpm_jax.report
--sweep=runs/comparison` makes tables and pictures of the folders.
"""

from fedpm_jax.system import allocator

if __name__ == '__main__':
  allocator.restart_with_huge_pages()

import pathlib
import signal
import sys

from absl import app, flags, logging

from fedpm_jax.experiments import sweeps
from fedpm_jax.system import files, machine


def main() -> None:
  """Parses the flags and runs; a mistake of the user is one line."""
  path = flags.DEFINE_string('config', None, 'The file.', required=True)
  workdir = flags.DEFINE_string(
    'workdir', None, 'Where to write; runs/<config> by default.'
  )
  jobs = flags.DEFINE_integer(
    'jobs', 1, 'Processes side by side; 0: all in this one.', lower_bound=0
  )
  only = flags.DEFINE_multi_string(
    'only', [], 'Some runs: label=value,value; again for other labels.'
  )

  def start(argv):
    if len(argv) > 1:
      raise ValueError(f'Unexpected arguments: {argv[1:]}; see --help.')
    file = pathlib.Path(path.value)
    sweep = sweeps.read(file)
    folder = pathlib.Path(workdir.value or pathlib.Path('runs') / file.stem)
    runs = sweeps.select(sweep, only.value)
    order = [str(sweeps.directory(run.labels)) for run in sweep]
    files.write_json(folder / 'sweep.json', order)
    if not jobs.value:
      machine.keep_compiled_programs()
    sys.exit(sweeps.execute(runs, folder, jobs=jobs.value))

  def interrupt(*_):
    raise KeyboardInterrupt

  logging.set_verbosity(logging.WARNING)
  signal.signal(signal.SIGTERM, interrupt)
  try:
    app.run(start)
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')
  except KeyboardInterrupt:
    print('Stopped; the same command continues.', file=sys.stderr)
    sys.exit(128 + signal.SIGINT)


if __name__ == '__main__':
  main()
