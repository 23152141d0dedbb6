"""What every codec would have cost for the symbols that a run kept."""

import pathlib
from collections.abc import Callable
from typing import Any

from fedpm_jax.experiments import build, checkpoint
from fedpm_jax.experiments import config as configs
from fedpm_jax.experiments.config import Config
from fedpm_jax.experiments.experiment import Experiment
from fedpm_jax.reports import archive, plots, tables
from fedpm_jax.system import files, reading
from fedpm_jax.system.text import printable

_REMEDY = 'Start the run again: the file is written anew.'


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
    A Markdown table, a row per kept round; damaged archives are named below
    it.

  Raises:
    ValueError: the run kept no symbols, or is of another version.
    FileError: its configuration, or all that it kept, is damaged; or the
      objects are not those of the run.
  """
  if not workdir.is_dir():
    raise ValueError(f'There is no folder {workdir}.')
  archive.paths(workdir)  # Nothing else is read where there is none.
  experiment = _experiment(workdir / 'config.json', data_dir, get_parts, parts)
  sizes = archive.Sizes(
    experiment.engine.method.network.layout.num_parameters,
    experiment.config.num_clients,
    experiment.config.clients_per_round,
    experiment.config.rounds,
  )
  kept, damaged = archive.load(workdir, sizes)
  costs = experiment.codec_costs(kept)
  written = [workdir / name for name in ('bits.csv', 'bits.png')]
  files.write_bytes(written[0], tables.to_csv(costs))
  plots.costs(costs, written[1], title=workdir.name)
  lines = [*_table(costs), '', *_left_out(damaged)]
  return '\n'.join([*lines, *(printable(str(path)) for path in written)])


def _experiment(
  path: pathlib.Path,
  data_dir: str,
  get_parts: Callable[[Config], dict[str, Any]] | None,
  parts: dict[str, Any],
) -> Experiment:
  """The experiment that a config.json describes, and no other."""
  plain = reading.read_json(path, dict, remedy=_REMEDY)
  if get_parts:
    parts = get_parts(configs.from_dict(plain, build.Parts._fields))
  config = configs.from_dict(plain, parts)
  config.data.dir = data_dir
  experiment = Experiment(config, **parts)
  # A key that was lost would be its default, and the costs of another run.
  here = files.to_json(experiment.description)
  if changes := checkpoint.differences(plain, here):
    problem = f'it describes another run: {"; ".join(changes)}'
    remedy = f'Hand over the objects of the run, if it had some. {_REMEDY}'
    raise reading.FileError(path, problem, remedy)
  return experiment


def _table(costs: list[dict[str, Any]]) -> list[str]:
  """A Markdown table, a row per round and a column per codec."""
  names = list(dict.fromkeys(row['codec'] for row in costs))
  cells: dict[int, dict[str, str]] = {}
  for row in costs:
    ideal = f' ({row["ideal"]:.4f})' if 'ideal' in row else ''
    of_round = cells.setdefault(row['round_idx'], {})
    of_round[row['codec']] = f'{row["real"]:.4f}{ideal}'
  return [
    'Bits per parameter and client, measured (ideal code length in brackets)',
    '',
    tables.line(['round', *names]),
    '| --- |' + ' --- |' * len(names),
    *(
      tables.line([f'{round_idx + 1}', *(of_round[name] for name in names)])
      for round_idx, of_round in cells.items()
    ),
  ]


def _left_out(damaged: list[reading.FileError]) -> list[str]:
  """A line for every archive that the table has no row of."""
  if not damaged:
    return []
  reasons = [f'- {tables.escaped(str(error))}' for error in damaged]
  return [f'{len(damaged)} damaged archives left out:', '', *reasons, '']
