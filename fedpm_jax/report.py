"""Tables and pictures of runs.

--bits=RUN         what would every codec have cost, on the masks of a run?
--config=FILE      with --bits: the file of a run with parts of its own
--data_dir=FOLDER  with --bits: as config.data.dir
--sweep=FOLDER     tables and pictures of the runs of a sweep
--out=FOLDER       with --sweep: where to write; the same folder by default
--target=DATA=ACCURACY   with --sweep: bytes up to an accuracy; may come again

python -m fedpm_jax.report --bits=runs/digits
python -m fedpm_jax.report --sweep=runs/comparison --target=digits=0.9
"""

import pathlib
import sys

from fedpm_jax import cli


def main(argv: list[str] | None = None) -> None:
  """Writes a report; a mistake of the user is one line."""
  cli.guarded(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv: list[str]) -> None:
  flags = cli.Flags(
    bits='', config='', data_dir='', sweep='', out='', target=[]
  )
  arguments = cli.parse(argv, flags, __doc__)
  cli.nothing_left(arguments)
  bits, config, data_dir, sweep, out, target = arguments.flags.values()
  if bool(bits) == bool(sweep):
    got = 'both' if bits else 'neither'
    raise ValueError(f'Give one of --bits and --sweep, got {got}.')
  # Heavy imports wait until the flags are right.
  from fedpm_jax.experiments import codec_report, config_files
  from fedpm_jax.reports import compare
  from fedpm_jax.system import machine

  machine.keep_compiled_programs()
  if bits:
    make = None
    if config:
      make = getattr(config_files.read(config).module, 'get_parts', None)
    text = codec_report.compare_codecs(
      pathlib.Path(bits), data_dir=data_dir, get_parts=make
    )
  else:
    to = pathlib.Path(out or sweep)
    targets = _targets(target)
    text = compare.compare_runs(pathlib.Path(sweep), to, targets=targets)
  print(text)


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


if __name__ == '__main__':
  main()
