"""The picture of one round, made of a small example that adds up.

    python docs/tools/picture.py      writes docs/img/round.svg

Text stays text.  The picture brings its own background, because a page that
shows it cannot tell it which colours the page has.
"""

import pathlib
from collections.abc import Iterable, Sequence

PICTURE = pathlib.Path(__file__).parents[1] / 'img' / 'round.svg'
COMMAND = 'python docs/tools/picture.py'

WIDTH, HEIGHT, CELL = 600, 660, 34
LEAST = 0.01  # fedpm.theta_clip
BEFORE = (0.75, 0.25, 0.5, 0.99, LEAST, 0.5, 0.25, 0.75)
MASKS = {  # of each client of the cohort
  'client 2': (1, 0, 1, 1, 0, 0, 0, 1),
  'client 5': (1, 0, 1, 1, 0, 1, 1, 1),
  'client 6': (1, 1, 1, 1, 0, 0, 0, 0),
  'client 9': (0, 0, 1, 1, 0, 0, 0, 1),
}
STYLE = """
  .ground { fill: #ffffff; stroke: #b0bec5 }
  .box { fill: #eef5f4; stroke: #00796b; stroke-width: 1.5 }
  .cell { stroke: #78909c; fill: #00796b }
  .arrow { stroke: #37474f; stroke-width: 2; fill: none }
  .head { fill: #37474f }
  text { fill: #1c2529; font: 16px sans-serif }
  .title { font-weight: bold }
  .small { font-size: 14px }
  .middle { text-anchor: middle }
  .on { fill: #ffffff }
  .half { fill: #10181a }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #1e2529; stroke: #546e7a }
    .box { fill: #26332f; stroke: #4db6ac }
    .cell { stroke: #90a4ae; fill: #4db6ac }
    .arrow { stroke: #cfd8dc }
    .head { fill: #cfd8dc }
    text { fill: #eceff1 }
    .on, .half { fill: #10181a }
  }
"""


def picture() -> str:
  """The whole SVG."""
  counts = [sum(bits) for bits in zip(*MASKS.values(), strict=True)]
  after = [min(max(n / len(MASKS), LEAST), 1 - LEAST) for n in counts]
  parts = [
    f'<rect class="ground" x="1" y="1" width="{WIDTH - 2}" height="{HEIGHT - 2}"'
    ' rx="10"/>',
    '<rect class="box" x="20" y="20" width="560" height="116" rx="8"/>',
    _text(36, 48, 'Server: theta, the chance that a weight is kept', 'title'),
    *_cells(36, 62, BEFORE),
    _text(36, 122, '1. The server draws the cohort: clients 2, 5, 6 and 9', ''),
    *_arrow(120, 140, 196),
    _text(136, 165, '2. Broadcast: theta, coded as', ''),
    _text(136, 185, 'what is new since the last round', ''),
    '<rect class="box" x="20" y="202" width="560" height="252" rx="8"/>',
    _text(
      36, 230, '3. Each client trains scores on its own examples,', 'title'
    ),
    _text(36, 252, 'and draws one mask from its own theta', 'title'),
  ]
  for row, (name, mask) in enumerate(MASKS.items()):
    y = 266 + row * 45
    parts += [_text(36, y + 23, name, ''), *_cells(130, y, mask)]
  parts += [
    *_arrow(120, 458, 514),
    _text(136, 483, '4. Messages: masks, coded as where', ''),
    _text(136, 503, "the server's guess of them is wrong", ''),
    '<rect class="box" x="20" y="520" width="560" height="120" rx="8"/>',
    _text(36, 548, '5. Server: theta becomes the share of ones', 'title'),
    *_cells(36, 562, after),
    _text(36, 624, '6. Evaluation; then the next round begins', ''),
  ]
  return (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
    f' width="{WIDTH}" height="{HEIGHT}" role="img">\n'
    '<title>One round of FedPM</title>\n'
    f'<style>{STYLE}</style>\n' + '\n'.join(parts) + '\n</svg>\n'
  )


def _text(x: int, y: int, text: str, kind: str) -> str:
  return f'<text x="{x}" y="{y}" class="{kind}">{text}</text>'


def _cells(x: int, y: int, values: Sequence[float]) -> Iterable[str]:
  """A row of cells, the fuller the larger the value."""
  for i, value in enumerate(values):
    left, middle = x + i * (CELL + 16), x + i * (CELL + 16) + (CELL + 16) // 2
    shown = f'{value:g}'.removeprefix('0') or '0'
    on = ' on' if value > 0.9 else ' half' if value > 0.5 else ''
    yield (
      f'<rect class="cell" x="{left}" y="{y}" width="{CELL + 16}"'
      f' height="{CELL}" fill-opacity="{value:g}"/>'
      f'<text x="{middle}" y="{y + 23}" class="middle{on}">{shown}</text>'
    )


def _arrow(x: int, top: int, bottom: int) -> Iterable[str]:
  """Downwards."""
  yield f'<path class="arrow" d="M{x} {top} V{bottom - 8}"/>'
  yield (f'<path class="head" d="M{x - 7} {bottom - 10} h14 l-7 12 z"/>')


def main() -> None:
  """Writes the picture."""
  PICTURE.parent.mkdir(exist_ok=True)
  PICTURE.write_text(picture())


if __name__ == '__main__':
  main()
