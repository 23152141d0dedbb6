"""Tables, pictures and pages of runs.

RUN [RUN ...]      a table and one HTML page, which needs no server and no
                   network; runs that differ in the seed only are one line
--list [FOLDER]    a line for each run below a folder, runs by default
--bits=RUN         what would every codec have cost, on the masks of a run?
--config=FILE      with --bits: the file of a run with parts of its own
--data_dir=FOLDER  with --bits: as config.data.dir
--sweep=FOLDER     tables and pictures of the runs of a sweep
--out=PATH         where to write.  Of runs: a file .html, or a folder for
                   report.html; the folder of a single run by default.  Of a
                   sweep: a folder, its own by default
--target=DATA=ACCURACY   with --sweep: bytes up to an accuracy; may come again

python -m fedpm_jax.report runs/digits
python -m fedpm_jax.report runs/digits,seed=* runs/cifar10 --out=reports/all.html
python -m fedpm_jax.report --list
python -m fedpm_jax.report --bits=runs/digits
python -m fedpm_jax.report --sweep=runs/comparison --target=digits=0.9
"""

import pathlib
import sys

from fedpm_jax import cli

_FOLDER = 'runs'  # what --list alone lists


def main(argv: list[str] | None = None) -> None:
  """Writes a report; a mistake of the user is one line."""
  cli.guarded(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv: list[str]) -> None:
  flags = cli.Flags(
    bits='', config='', data_dir='', sweep='', out='', target=[], list=''
  )
  if argv[-1:] == ['--list']:  # It may stand alone; all others need a value.
    argv = [*argv, _FOLDER]
  arguments = cli.parse(argv, flags, __doc__)
  folders = [pathlib.Path(folder) for folder in arguments.rest]
  given = ['runs'] if folders else []
  given += [f'--{n}' for n in ('list', 'bits', 'sweep') if arguments.flags[n]]
  if len(given) != 1:
    raise ValueError(
      'Give folders of runs, or one of --list, --bits and --sweep, got'
      f' {" and ".join(given) or "none of them"}; see --help.'
    )
  if folders:
    print(_page(folders, arguments.flags['out']))
  elif given == ['--list']:
    from fedpm_jax.reports import run_table

    print(run_table.listing(pathlib.Path(arguments.flags['list'])))
  else:
    print(_of_masks_or_a_sweep(arguments.flags))


def _page(folders: list[pathlib.Path], out: str) -> str:
  """Writes the page of some runs; the table, and what was written."""
  if not out and len(folders) > 1:
    raise ValueError(
      f'Say where the page of {len(folders)} runs is to go: --out=FILE.html.'
    )
  # Heavy imports wait until the flags are right.
  from fedpm_jax.experiments import starts
  from fedpm_jax.reports import page, page_figures, run_files, run_table, style
  from fedpm_jax.system.text import printable

  runs = [run_files.read(f, starts.read(f)) for f in folders]
  groups = run_files.groups(runs)
  path = pathlib.Path(out or folders[0])
  if path.suffix != '.html':
    path = path / 'report.html'
  page.write(groups, path)
  written = [path]
  if len(runs) > 1:
    overlay = page_figures.overlay(groups)
    written += style.save_both(overlay, path.with_suffix(''))
  lines = [run_table.text(groups), '', *(str(path) for path in written)]
  return '\n'.join(printable(x) for line in lines for x in line.split('\n'))


def _of_masks_or_a_sweep(flags: cli.Flags) -> str:
  """Codecs compared on the masks of a run, or the runs of a sweep."""
  from fedpm_jax.experiments import codec_report, config_files
  from fedpm_jax.reports import compare
  from fedpm_jax.system import machine

  machine.keep_compiled_programs()
  if flags['bits']:
    make = None
    if flags['config']:
      file = config_files.read(flags['config'])
      make = lambda config: file._replace(config=config).parts()
    return codec_report.compare_codecs(
      pathlib.Path(flags['bits']), data_dir=flags['data_dir'], get_parts=make
    )
  sweep = pathlib.Path(flags['sweep'])
  to = pathlib.Path(flags['out'] or sweep)
  return compare.compare_runs(sweep, to, targets=_targets(flags['target']))


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
