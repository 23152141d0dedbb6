"""What every codec would have cost for the symbols that a run kept."""

import pathlib
from collections.abc import Callable
from typing import Any

from fedpm_jax.experiments import build
from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments.config import Config
from fedpm_jax.experiments.experiment import Experiment
from fedpm_jax.reports import archive, plots
from fedpm_jax.system import files


def compare_codecs(
  workdir: pathlib.Path,
  *,
  data_dir: str = '',
  get_parts: Callable[[Config], dict[str, Any]] | None = None,
  **parts: Any,
) -> str:
  """What every codec would have cost for the symbols that a run kept.

  Writes bits.csv and bits.png into the folder of the run.

  Args:
    workdir: of the run.
    data_dir: of TFDS, as `config.data.dir`, which a run does not note down.
    get_parts: of a configuration's file; makes the objects of the run.
    **parts: objects that the run was trained with; see `Experiment`.

  Returns:
    A Markdown table, a row per kept round.

  Raises:
    ValueError: the run kept no symbols, or is of another version.
  """
  if not workdir.is_dir():
    raise ValueError(f'There is no folder {workdir}.')
  kept = archive.load(workdir)
  plain = files.read_json(workdir / 'config.json')
  if get_parts:
    parts = get_parts(configs.from_dict(plain, build.Parts._fields))
  config = configs.from_dict(plain, parts)
  config.data.dir = data_dir
  costs = Experiment(config, **parts).codec_costs(kept)
  columns = list(max(costs, key=len))
  lines = [','.join(columns)]
  for row in costs:
    lines.append(','.join(str(row.get(column, '')) for column in columns))
  files.write_bytes(workdir / 'bits.csv', ('\n'.join(lines) + '\n').encode())
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
    table.append(f'| {round_.round_idx + 1} | ' + ' | '.join(cells) + ' |')
  return '\n'.join([*table, '', f'{workdir}/bits.csv', f'{workdir}/bits.png'])
