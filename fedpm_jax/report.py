"""From the rows of a run to a summary and tables.

`python -m fedpm_jax.report --bits RUN` compares codecs on the masks of a run,
`--sweep FOLDER` the runs of a sweep.
"""

import importlib.metadata
import pathlib
import platform
import sys
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging

from fedpm_jax import (
  artifact,
  bits,
  comparison,
  comparison_plots,
  comparison_tables,
  machine,
  masks,
  metrics,
  plots,
  version,
)
from fedpm_jax import config as configs
from fedpm_jax import experiment as experiments

_PACKAGES = ('jax', 'flax', 'optax', 'numpy', 'constriction')


def summarise(
  rows: list[dict[str, Any]], config: dict[str, Any], model: artifact.Model
) -> dict[str, Any]:
  """What a run came to: last and best metrics, totals, config, versions.

  Args:
    rows: of metrics.jsonl; at least one, the last one evaluated.
    config: as in config.json.
    model: the exported one.

  Returns:
    The content of summary.json.  `best` is the best round by test accuracy,
    so it flatters; `last` is what a method is to be compared by.
  """
  evaluated = [row for row in rows if 'eval/accuracy_mean' in row]
  best = {}
  for name in plots.accuracies(rows):
    row = max(evaluated, key=lambda row, name=name: row[name])
    best[name] = {'value': row[name], 'round_idx': row['round_idx']}
  return {
    'last': rows[-1],
    'best': best,
    'total': {
      name: sum(row[name] for row in rows)
      for name in ('uplink/bytes', 'downlink/bytes', 'time/round_s')
    },
    'mean': {
      name: float(np.mean([row[name] for row in rows]))
      for name in ('uplink/bpp_wire', 'downlink/bpp_wire')
    },
    'model': {
      'num_parameters': len(model.values),
      'bytes': model.num_bytes,
      'bpp': model.bpp,
      'times_smaller_than_float32': model.ratio,
    }
    | _densities(model),
    'config': config,
    'versions': {
      'fedpm_jax': version.__version__,
      'python': platform.python_version(),
      **{name: importlib.metadata.version(name) for name in _PACKAGES},
    },
    'device': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
  }


def _densities(model: artifact.Model) -> dict[str, Any]:
  """The shares of ones of a mask, of the whole and of every tensor."""
  if model.mask is None:
    return {}
  tensors = masks.split(model.layout, model.mask)
  names = zip(model.layout.names, tensors, strict=True)
  return {
    'density': float(np.mean(model.mask)),
    'density_per_tensor': {name: float(np.mean(x)) for name, x in names},
  }


def table(summary: dict[str, Any]) -> str:
  """A summary as a short text table."""
  last, best, model = summary['last'], summary['best'], summary['model']
  total = summary['total']
  lines = ['', f'{"":20}{"last":>8}{"best":>8}   (in round)']
  for name in best:
    kind = name.removeprefix('eval/accuracy_')
    lines.append(
      f'accuracy, {kind:10}{last[name]:8.4f}{best[name]["value"]:8.4f}'
      f'   ({best[name]["round_idx"]})'
    )
  lines.append(f'{"":20}{"last":>8}{"mean":>8}   total')
  for way in ('uplink', 'downlink'):
    name = f'{way}/bpp_wire'
    lines.append(
      f'{way + ", bpp":20}{last[name]:8.4f}{summary["mean"][name]:8.4f}'
      f'   {total[f"{way}/bytes"] / 1e6:.2f} MB'
    )
  lines += [
    f'{"model, bpp":20}{model["bpp"]:8.4f}{"":8}   {model["bytes"]:,} bytes'
    f' for {model["num_parameters"]:,} parameters,'
    f' {model["times_smaller_than_float32"]:.1f} times smaller than float32',
    '(bpp: bits per parameter and client, as sent, everything included)',
  ]
  return '\n'.join(lines)


def files(workdir: pathlib.Path) -> str:
  """The files that a run left, with what they are."""
  names = {
    'metrics.jsonl': 'a row a round',
    'summary.json': 'last and best metrics, config, versions',
    'config.json': 'the configuration',
    'model.fedpm': 'the model: fedpm_jax.artifact.load(path)',
    'curves.png': 'accuracy and bits',
    'partition.png': "the clients' labels",
    'symbols': 'the masks of some rounds, for report --bits',
    'checkpoints': 'to continue from',
  }
  return '\n'.join(
    [
      '',
      *(
        f'{workdir / name!s:40} {what}'
        for name, what in names.items()
        if (workdir / name).exists()
      ),
    ]
  )


def compare_codecs(workdir: pathlib.Path, *, data_dir: str = '') -> str:
  """What every codec would have cost for the symbols that a run kept.

  Writes bits.csv and bits.png beside them.

  Args:
    workdir: of the run.
    data_dir: of TFDS, as `config.data.dir`, which a run does not note down.

  Returns:
    A Markdown table, a row per kept round.

  Raises:
    ValueError: the run kept no symbols, or is of another version.
  """
  kept = bits.load(workdir)
  config = configs.from_dict(metrics.read_json(workdir / 'config.json'))
  config.data.dir = data_dir
  machine.use_all_cores()
  costs = experiments.costs(experiments.build(config), kept)
  columns = list(max(costs, key=len))
  lines = [','.join(columns)]
  for row in costs:
    lines.append(','.join(str(row.get(column, '')) for column in columns))
  metrics.write_bytes(workdir / 'bits.csv', ('\n'.join(lines) + '\n').encode())
  plots.costs(costs, workdir / 'bits.png', title=workdir.name)
  names = list(dict.fromkeys(row['codec'] for row in costs))
  real = {(row['round_idx'], row['codec']): row for row in costs}
  table = [
    'Bits per parameter and client, measured (ideal code length in brackets)',
    '',
    '| round | ' + ' | '.join(names) + ' |',
    '| --- |' + ' --- |' * len(names),
  ]
  for round_ in kept:
    cells = []
    for name in names:
      row = real[round_.round_idx, name]
      ideal = f' ({row["ideal"]:.4f})' if 'ideal' in row else ''
      cells.append(f'{row["real"]:.4f}{ideal}')
    table.append(f'| {round_.round_idx} | ' + ' | '.join(cells) + ' |')
  return '\n'.join([*table, '', f'{workdir}/bits.csv', f'{workdir}/bits.png'])


def compare_runs(
  workdir: pathlib.Path, out: pathlib.Path, *, targets: dict[str, float]
) -> str:
  """Tables and pictures of the runs of a sweep.

  Args:
    workdir: of the sweep.
    out: where to write them.
    targets: see `comparison.table`.

  Returns:
    The Markdown tables, and the files that were written.

  Raises:
    ValueError: the folder holds no runs, or runs that do not compare.
  """
  groups = comparison.read(workdir)
  text, files = comparison_tables.write(groups, out, targets)
  files += comparison_plots.draw(groups, out)
  return '\n'.join([text, *map(str, files)])


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
