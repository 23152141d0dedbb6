"""Tables and pictures of runs.

`python -m fedpm_jax.report --bits RUN` compares codecs on the masks of a run,
`--sweep FOLDER` the runs of a sweep.
"""

import pathlib
import sys

from absl import app, flags, logging

from fedpm_jax.experiments.codec_report import compare_codecs
from fedpm_jax.reports.compare import compare_runs
from fedpm_jax.system import machine


def _targets(texts: list[str]) -> dict[str, float]:
  """The values of --target, `data=accuracy`."""
  targets = {}
  for text in texts:
    name, _, value = text.partition('=')
    try:
      targets[name] = float(value)
    except ValueError:
      targets[name] = -1.0
    if not 0 <= targets[name] <= 1:
      raise ValueError(
        f'--target takes data=accuracy, such as digits=0.9, got {text!r}.'
      )
  return targets


def main() -> None:
  """Parses the flags; a mistake of the user is one line."""
  logging.set_verbosity(logging.WARNING)
  machine.keep_compiled_programs()
  run = flags.DEFINE_string(
    'bits', None, 'A run: what would every codec have cost?'
  )
  data_dir = flags.DEFINE_string(
    'data_dir', '', 'With --bits: as config.data.dir.'
  )
  sweep = flags.DEFINE_string(
    'sweep', None, 'The folder of a sweep: tables and pictures of its runs.'
  )
  out = flags.DEFINE_string(
    'out', None, 'With --sweep: where to write; the same folder by default.'
  )
  target = flags.DEFINE_multi_string(
    'target', [], 'With --sweep: bytes up to an accuracy, as digits=0.9.'
  )

  def start(argv):
    if len(argv) > 1:
      raise ValueError(f'Unexpected arguments: {argv[1:]}; see --help.')
    if (run.value is None) == (sweep.value is None):
      got = 'neither' if run.value is None else 'both'
      raise ValueError(f'Give one of --bits and --sweep, got {got}.')
    if run.value is not None:
      folder = pathlib.Path(run.value)
      print(compare_codecs(folder, data_dir=data_dir.value))
    else:
      folder = pathlib.Path(sweep.value)
      to = pathlib.Path(out.value or folder)
      print(compare_runs(folder, to, targets=_targets(target.value)))

  try:
    app.run(start)
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')


if __name__ == '__main__':
  main()
