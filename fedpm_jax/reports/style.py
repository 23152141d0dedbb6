"""How every picture looks: colours, axes that can be read, files.

Matplotlib is imported only where something is drawn, because that takes long.
"""

import contextlib
import io
import pathlib
import re
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from fedpm_jax.system import files
from fedpm_jax.system.text import printable

# Of characters; what is longer leaves no room for the picture.
MAX_NAME, MAX_TITLE = 40, 100
# Okabe and Ito's colours, which people with any colour vision can tell apart.
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00')
MARKERS = 'os^vDP'
MAX_LINES = len(COLOURS)  # in a panel, so that each can be followed
_INK = '#39424e'
# Without a date, so that the same picture is the same file.
_METADATA = {
  'png': None,
  'pdf': {'CreationDate': None},
  'svg': dict.fromkeys(('Creator', 'Date', 'Format', 'Type')),
}
# An axis of accuracies with a value above this one shows small mistakes large.
_HIGH = 0.9
_NEAR_ONE = 0.005  # about a test image of a small test set
_ABOVE_ONE = 1 + _NEAR_ONE / 4  # room for a point at 1
_ACCURACY_TICKS = (  # the ones that are wanted most first
  *(0.9, 0.5, 0.99, 0.8, 0.95, 0.98, 0.2, 0.7, 0.97, 1, 0.995, 0.985, 0.96),
  *(0.85, 0.94, 0.92, 0.1, 0.3, 0.6, 0.4, 0),
)


def figure(**options: Any) -> Any:
  """A Matplotlib figure of no backend: no window, and no setting is changed."""
  from matplotlib.figure import Figure

  return Figure(layout='constrained', **options)


def colours(name: str) -> Any:
  """A colour map of Matplotlib."""
  import matplotlib

  return matplotlib.colormaps[name]


def panel(axis: Any, **labels: str) -> Any:
  """Axes as all pictures have them: a light grid, two spines.

  Args:
    axis: of Matplotlib.
    **labels: for `axis.set`, such as xlabel.

  Returns:
    The axes.
  """
  for side in ('top', 'right'):
    axis.spines[side].set_visible(False)
  for side in ('left', 'bottom'):
    axis.spines[side].set_color('#9aa3ad')
  axis.tick_params(color='#9aa3ad', labelcolor=_INK)
  axis.grid(color='#d9dee3', linewidth=0.7)
  axis.set_axisbelow(True)
  axis.set(**labels)
  return axis


def whole_numbers(axis: Any) -> None:
  """Rounds and clients have no halves; `axis` is an x or a y axis."""
  # Matplotlib would rather have three ticks than whole ones.
  axis.get_major_locator().set_params(integer=True, min_n_ticks=1)


def logarithmic(axis: Any) -> None:
  """A log scale whose ticks can be read, however short it is.

  To be called when everything is drawn.

  Args:
    axis: an x or a y axis, with what lies on it; all of that is positive.
  """
  axis.axes.set(**{f'{axis.axis_name}scale': 'log'})
  low, high = sorted(axis.get_view_interval())
  axis.set_major_formatter('{x:g}')
  axis.set_minor_formatter('')
  axis.set_ticks(log_ticks(low, high))
  axis.set_ticks([], minor=True)
  axis.axes.set(**{f'{axis.axis_name}lim': (low, high)})


def log_ticks(low: float, high: float) -> list[float]:
  """Round numbers from low to high on a log scale, three to eight of them.

  Args:
    low: positive.
    high: above it.
  """
  first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
  inside: list[float] = []
  for steps in ([1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7]):
    powers = range(first, last + 1)
    ticks = [float(f'{step}e{power}') for power in powers for step in steps]
    found = [tick for tick in ticks if low <= tick <= high]
    if inside and len(found) > 8:
      break
    inside = found
  if len(inside) < 3:  # less than an octave
    step = 10.0 ** np.floor(np.log10((high - low) / 2))
    step *= max(s for s in (1, 2, 5) if s * step <= (high - low) / 2)
    first = int(np.ceil(low / step))
    ticks = [first * step + i * step for i in range(9)]
    inside = [float(f'{x:.10g}') for x in ticks if x <= high]
  every = -(-len(inside) // 8)  # of many powers of ten
  return inside[::every]


def accuracies(axis: Any, values: Iterable[float]) -> None:
  """A y axis on which 0.98 and 0.99 are as far apart as they are.

  Where some of the values are high, equal distances are equal ratios of what is
  wrong.  The ticks say so.

  Args:
    axis: of Matplotlib.
    values: all that is drawn on it.
  """
  found = np.array(list(values), np.float64)
  if not found.size:
    return
  low, high = float(found.min()), float(found.max())
  if high <= _HIGH:
    margin = 0.05 * max(high - low, 0.01)
    axis.set_ylim(low - margin, high + margin)
    return
  axis.set_yscale('function', functions=(_stretched, _shrunk))
  low = max(0.0, min(low, 0.995))
  margin = 0.05 * (_stretched(high) - _stretched(low)) + 0.02
  bottom = _stretched(low) - margin
  top = min(_stretched(high) + margin, _stretched(_ABOVE_ONE))
  ticks: list[float] = []
  places: list[float] = []
  for tick in _ACCURACY_TICKS:
    place = (_stretched(tick) - bottom) / (top - bottom)
    if 0 <= place <= 1 and all(abs(place - x) > 0.085 for x in places):
      ticks.append(tick)
      places.append(place)
  axis.set_yticks(ticks, [f'{tick:g}' for tick in ticks])
  axis.set_yticks([], minor=True)
  axis.set_ylim(_shrunk(bottom), _shrunk(top))


def _stretched(accuracy: Any) -> Any:
  return -np.log(np.maximum(1 + _NEAR_ONE - accuracy, _NEAR_ONE / 2))


def _shrunk(place: Any) -> Any:
  return 1 + _NEAR_ONE - np.exp(-place)


def band(axis: Any, x: Any, y: np.ndarray, colour: Any, **options: Any) -> Any:
  """The mean of `y [seeds, points]`, in a band from the least to the greatest.

  Returns:
    The line.
  """
  (line,) = axis.plot(x, y.mean(0), color=colour, linewidth=1.6, **options)
  if len(y) > 1:
    axis.fill_between(
      x, y.min(0), y.max(0), color=colour, alpha=0.18, linewidth=0
    )
  return line


def shown(name: str, *, most: int = MAX_NAME) -> str:
  r"""A name as text of a picture: it prints, it is short, and is no formula.

  For Matplotlib a formula is what stands between two $, but not between \$.
  """
  text = printable(name)
  if len(text) > most:
    text = f'{text[: most // 2]}...{text[3 - most // 2 :]}'
  return text.replace('$', r'\$')


def title(drawn: Any, text: str, *, most: int = MAX_TITLE) -> None:
  """A title over the whole figure, none where the text is empty."""
  drawn.suptitle(shown(text, most=most))


def legend(of: Any, lines: dict[str, Any], **options: Any) -> None:
  """A legend of all lines of a figure or of axes, whatever their names.

  Matplotlib leaves out names that begin with an underscore, so that they are
  set afterwards.
  """
  made = of.legend(list(lines.values()), [''] * len(lines), **options)
  made.set_frame_on(False)
  for text, name in zip(made.get_texts(), lines, strict=True):
    text.set_text(shown(name))


def name_ticks(axis: Any, names: list[str]) -> None:
  """Names below the points 0, 1, 2, ... of an axis."""
  axis.set_xticks(range(len(names)), [shown(name) for name in names])
  axis.tick_params(axis='x', rotation=60)


@contextlib.contextmanager
def any_script() -> Iterator[None]:
  """No warning of a name in a script that the font lacks: it has boxes."""
  with warnings.catch_warnings():
    for what in (r'Glyph \d+ .* missing from font', '.* natively'):
      warnings.filterwarnings('ignore', what, UserWarning)
    yield


def save_both(drawn: Any, stem: pathlib.Path) -> list[pathlib.Path]:
  """Writes a picture as PNG, for screens, and as PDF, for papers."""
  paths = [stem.with_name(stem.name + suffix) for suffix in ('.png', '.pdf')]
  for path in paths:
    save(drawn, path)
  return paths


def save(drawn: Any, path: pathlib.Path) -> None:
  """Writes a picture, a Matplotlib figure, whole or not at all.

  Args:
    drawn: the figure.
    path: .png or .pdf.
  """
  files.write_bytes(path, rendered(drawn, path.suffix[1:]))


def rendered(drawn: Any, kind: str) -> bytes:
  """A picture as the content of a file: png, pdf or svg."""
  buffer = io.BytesIO()
  with any_script():
    drawn.savefig(buffer, format=kind, dpi=120, metadata=_METADATA[kind])
  return buffer.getvalue()


def to_svg(drawn: Any, prefix: str) -> str:
  """A picture as an element of a web page; text stays text.

  Args:
    drawn: the figure.
    prefix: of its ids, which no other picture of the page has.
  """
  import matplotlib

  options: dict[Any, Any] = {'svg.fonttype': 'none', 'svg.hashsalt': prefix}
  with matplotlib.rc_context(options):
    drawn.patch.set_visible(False)
    text = rendered(drawn, 'svg').decode()
  text = text[text.index('<svg') :]
  # The page's style decides on the width.
  head, _, rest = text.partition('>')
  head = re.sub(r' (width|height|xmlns:xlink|version)="[^"]*"', '', head)
  for element in ('metadata', 'style'):  # The page has its own style.
    rest = re.sub(f'<{element}.*?</{element}>', '', rest, flags=re.DOTALL)
  rest = re.sub(r'(<g|<path|<clipPath|<image) id="', rf'\1 id="{prefix}-', rest)
  rest = rest.replace('xlink:href="#', f'href="#{prefix}-')
  rest = rest.replace('xlink:href="data:', 'href="data:')
  rest = rest.replace('url(#', f'url(#{prefix}-')
  return f'{head}>{rest}'.strip()
