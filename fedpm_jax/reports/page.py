"""The page of runs: one HTML file that needs no server and no network.

Whatever comes from files is text: it goes through `markup.text`, and the page's
own policy lets a browser run no script and fetch nothing.
"""

import itertools
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from fedpm_jax.reports import (
  curves,
  markup,
  page_environment,
  page_figures,
  page_style,
  run_files,
  run_table,
  style,
)
from fedpm_jax.reports.run_files import Group
from fedpm_jax.system import files

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_MOST_GROUPS = style.MAX_LINES  # with pictures of their own
_OLD = (
  'This run has no history.json, which labels, theta and bits by tensor are drawn'
  ' from: it is of an older version.'
)
_NO_MASKS = (
  'No bits by tensor: masks are kept with config.wire.keep_every > 0, of a method'
  ' that sends masks drawn from theta.'
)
_IDEAL = (
  'Bits by direction are measured, 8 x the length of the messages. Bits by tensor'
  " are not: they are ideal code lengths under the model of the run's own codec;"
  ' a message is of all tensors together, and has a header.'
)
_BY_CLIENT = (
  'Accuracy by client: of the mean network on the test set, weighted by the'
  ' labels of each client.'
)
_SPREAD = (
  'How many of the parameters of a layer have which theta, from 0 (never kept) to'
  ' 1 (always kept); all rounds of a layer are on one scale.'
)


def write(groups: list[Group], path: pathlib.Path) -> None:
  """Writes the page, whole or not at all.

  Args:
    groups: of `run_files.groups`.
    path: of the file.
  """
  files.write_bytes(path, page(groups).encode())


def page(groups: list[Group]) -> str:
  """The page as text."""
  ids = (f'p{i}' for i in itertools.count())
  sections = {
    'Curves': _curves(groups, ids),
    'Bits': _bits(groups, ids),
    'Clients': _clients(groups, ids),
    'Theta': _theta(groups, ids),
    'Configuration': page_environment.configuration(groups),
    'Environment': page_environment.environment(groups),
    'Commands': page_environment.commands(groups),
  }
  sections = {name: body for name, body in sections.items() if body}
  title = _title(groups)
  links = ''.join(f'<a href="#{n.lower()}">{n}</a>' for n in sections)
  bodies = ''.join(
    f'<section id="{name.lower()}"><h2>{name}</h2>{body}</section>'
    for name, body in sections.items()
  )
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f'<title>{title}</title><style>{page_style.CSS}</style></head>'
    f'<body><main><header><h1>{title}</h1>{_lead(groups)}<nav>{links}</nav>'
    f'</header>{_overview(groups)}{bodies}</main></body></html>\n'
  )


def _title(groups: list[Group]) -> str:
  runs = [run for group in groups for run in group.runs]
  if len(runs) == 1:
    return markup.text(runs[0].name)
  if len(groups) == 1:
    return f'{markup.text(runs[0].name)}, {len(runs)} seeds'
  return f'{len(groups)} settings, {len(runs)} runs'


def _lead(groups: list[Group]) -> str:
  """What was run, in a line; of several settings what they have in common."""
  configs = [run_files.flat(r.config) for g in groups for r in g.runs]
  shared = lambda key: (
    configs[0].get(key)
    if all(c.get(key, ...) == configs[0].get(key) for c in configs)
    else None
  )
  words = [
    f'{label}{value}'
    for label, key in (
      ('', 'algorithm'),
      ('model ', 'model'),
      ('data ', 'data.name'),
      ('split ', 'data.partition'),
      ('clients ', 'num_clients'),
      ('of them a round ', 'clients_per_round'),
      ('up by ', 'wire.uplink'),
      ('down by ', 'wire.downlink'),
    )
    if (value := shared(key)) is not None
  ]
  return f'<p class="lead">{markup.text(" · ".join(words))}</p>'


def _overview(groups: list[Group]) -> str:
  """The numbers that matter: tiles for one setting, a table for several."""
  rows = run_table.cells(groups)
  if len(groups) > 1:
    # A line breaks before the sign, not behind it.
    kept = lambda cell: cell.replace(' +- ', ' +-\N{NO-BREAK SPACE}')
    lines = [('', tuple(map(kept, row))) for row in rows]
    found = markup.table(run_table.HEADER, lines, kind='wide')
    return f'<br>{found}{markup.note(run_table.NOTE)}'
  tiles = ''.join(
    f'<div class="tile"><b>{_number(cell)}</b>'
    f'<span>{markup.text(name)}</span></div>'
    for name, cell in zip(run_table.HEADER[1:], rows[0][1:], strict=True)
    if cell and not name.startswith('MB')  # They are below, at the bits.
  )
  return f'<div class="tiles">{tiles}</div>{markup.note(run_table.NOTE)}'


def _number(cell: str) -> str:
  """A number, and its standard deviation in small print."""
  mean, _, spread = cell.partition(' +- ')
  small = f'<small>+- {markup.text(spread)}</small>' if spread else ''
  return markup.text(mean) + small


def _plots(
  pictures: Iterable[page_figures.Picture], ids: Iterator[str], kind: str = ''
) -> str:
  """Pictures side by side, as many as there is room for."""
  drawn = ''.join(
    f'<figure class="plot"><figcaption>{markup.text(caption)}</figcaption>'
    f'{style.to_svg(figure, next(ids))}</figure>'
    for caption, figure in pictures
  )
  return f'<div class="plots {kind}">{drawn}</div>' if drawn else ''


def _curves(groups: list[Group], ids: Iterator[str]) -> str:
  several = any(len(group.runs) > 1 for group in groups)
  sentences = [
    'Where an accuracy is above 0.9, equal distances on its axis are equal ratios'
    ' of the errors.'
  ]
  if several:
    sentences.append(
      'Lines are means over the seeds; bands reach from the least to the greatest.'
    )
  pictures = _plots(page_figures.of_curves(groups), ids)
  return pictures + markup.note(' '.join(sentences))


def _pieces(
  groups: list[Group], part: str
) -> tuple[list[tuple[str, Any]], dict[str, str]]:
  """A part of the groups' histories, those that are the same only once.

  Args:
    groups: the first few; of each the first run that has a history.
    part: a key of it.

  Returns:
    (the names of the groups, the part); and by name, of groups without a
    history, the sentence that says so.
  """
  found: list[tuple[list[str], Any]] = []
  old = []
  for group in groups[:_MOST_GROUPS]:
    run = _first(group)
    if run is None:
      old.append(group.name)
      continue
    past: Any = run.history
    same = [names for names, piece in found if piece == past[part]]
    if same:
      same[0].append(group.name)
    else:
      found.append(([group.name], past[part]))
  pieces = [('; '.join(names), piece) for names, piece in found]
  return pieces, {'; '.join(old): _OLD} if old else {}


def _first(group: Group) -> Any:
  """The run whose history stands for the group; None where none has one."""
  return next((run for run in group.runs if run.history), None)


def _named(
  pictures: Iterable[page_figures.Picture], name: str, groups: list[Group]
) -> list[page_figures.Picture]:
  """Captions that say which of several groups they are of."""
  if len(groups) == 1:
    return [*pictures]
  return [page_figures.Picture(f'{name}: {c}', f) for c, f in pictures]


def _notes(sentences: dict[str, str], groups: list[Group]) -> str:
  """A sentence for each of these groups."""
  notes = [
    f'{name}: {sentence}' if len(groups) > 1 else sentence
    for name, sentence in sentences.items()
  ]
  if any(len(group.runs) > 1 for group in groups):
    shown = [_first(group) or group.runs[0] for group in groups[:_MOST_GROUPS]]
    names = ', '.join(run.name for run in shown)
    notes.append(f'Where a setting has several seeds, this is of one: {names}.')
  if len(groups) > _MOST_GROUPS:
    notes.append(f'Pictures are of the first {_MOST_GROUPS} settings only.')
  return ''.join(map(markup.note, notes))


def _bits(groups: list[Group], ids: Iterator[str]) -> str:
  """By direction as sent, by tensor as the codecs' models say."""
  rows = []
  for group in groups:
    for way in curves.WAYS:
      bpp = [r[f'{way}/bpp_wire'] for run in group.runs for r in run.rows]
      last = [run.rows[-1][f'{way}/bpp_wire'] for run in group.runs]
      total = [sum(r[f'{way}/bytes'] for r in run.rows) for run in group.runs]
      count = len(group.runs)
      name = f'{group.name}, {way}' if len(groups) > 1 else way
      numbers = (
        f'{sum(total) / count / 1e6:,.3f}',
        f'{sum(bpp) / len(bpp):.4f}',
        f'{sum(last) / count:.4f}',
      )
      rows.append(('', (name, *numbers)))
  header = (
    'as sent',
    'MB, all clients',
    'bits per parameter, mean',
    'in the last round',
  )
  return f'{markup.table(header, rows)}<br>{_pictures_of_bits(groups, ids)}'


def _pictures_of_bits(groups: list[Group], ids: Iterator[str]) -> str:
  pictures = page_figures.of_directions(groups)
  pieces, sentences = _pieces(groups, 'bits')
  for name, bits in pieces:
    if bits is None:
      sentences[name] = _NO_MASKS
      continue
    pictures += _named(page_figures.of_tensors(bits), name, groups)
    total = [
      f'{way} {sum(bits[way]) / sum(bits["sizes"]):.4f}'
      for way in curves.WAYS
      if bits[way] is not None
    ]
    known = '; '.join(total) or 'none is known for these codecs'
    sentences[name] = f'All tensors, ideal, bits per parameter: {known}.'
  return _plots(pictures, ids) + markup.note(_IDEAL) + _notes(sentences, groups)


def _clients(groups: list[Group], ids: Iterator[str]) -> str:
  pictures = page_figures.of_clients_accuracy(groups)
  notes = markup.note(_BY_CLIENT) if pictures else ''
  pieces, old = _pieces(groups, 'labels')
  for name, found in pieces:
    pictures += _named(page_figures.of_labels(found), name, groups)
  return _plots(pictures, ids) + notes + _notes(old, groups)


def _theta(groups: list[Group], ids: Iterator[str]) -> str:
  """How theta is spread; empty where no run has one."""
  parts = []
  pieces, old = _pieces(groups, 'theta')
  for name, entries in pieces:
    if entries:
      heading = f'<h3>{markup.text(name)}</h3>' if len(groups) > 1 else ''
      drawn = _plots(page_figures.of_theta(entries), ids, 'small')
      left_out = page_figures.layers_left_out(entries)
      more = f'{left_out} more layers are not drawn.' if left_out else ''
      parts.append(heading + drawn + (markup.note(more) if more else ''))
  if parts:
    parts.append(markup.note(_SPREAD))
  if parts or old:
    parts.append(_notes(old, groups))
  return ''.join(parts)
