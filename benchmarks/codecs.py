"""Speed of the mask codecs, in million mask bits a second on one core.

The masks are drawn: theta as after a round of 10 clients with a prior reset,
trained for long (most of it near 0 or 1), and a normal drift of its logits.

    python benchmarks/codecs.py [--parameters 458698] [--drift 0.4] [--json FILE]

Medians of interleaved repetitions; `both` counts a bit once for encoding and
decoding together.  `prior` sorts theta once for all clients of a round: its
sort is not in the figures.
"""

import argparse
import json
import pathlib
import platform
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from fedpm_jax import codecs
from fedpm_jax.codecs import dither
from fedpm_jax.protocol import wire

MASKS = ('bitpack', 'frequency', 'per_tensor', 'prior', 'dither')


def draw(size: int, drift: float, *, clients: int = 10, clip: float = 0.01):
  """(mask, dithers, theta) of one client, see the top of this file."""
  rng = np.random.default_rng(0)
  logits = 6 * rng.standard_normal(size)
  counts = rng.binomial(clients, 1 / (1 + np.exp(-logits)))
  theta = np.clip(counts / clients, clip, 1 - clip)
  q = np.rint(65536 * theta).astype(np.uint16)
  moved = np.log(theta / (1 - theta)) + drift * rng.standard_normal(size)
  q_k = np.clip(np.rint(65536 / (1 + np.exp(-moved))), 1, 65535)
  dithers = rng.integers(0, 65536, size).astype(np.uint16)
  return dithers < q_k, dithers, q


def measure(size: int, drift: float, repeats: int) -> list[dict]:
  """A row a codec: bits per parameter and million bits a second."""
  mask, dithers, q = draw(size, drift)
  address = {
    'kind': wire.Kind.UPLINK,
    'round_idx': 0,
    'client': 0,
    'layout_hash': bytes(8),
  }
  times = {name: [] for name in MASKS}
  for repeat in range(repeats + 1):
    for name in MASKS:
      start = time.perf_counter()
      # Guessing is part of the work, and both ends do it.
      guess = dither.guess(q, dithers) if name == 'dither' else None
      guessed = time.perf_counter()
      side = codecs.SideInformation(q, (size,), guess)
      message = wire.encode(mask, side, codec=name, **address)
      encoded = time.perf_counter()
      got = wire.decode(message, side, codec=name, **address)
      end = time.perf_counter()
      assert np.array_equal(got, mask)
      guessing = guessed - start
      # The first repetition warms up.
      if repeat:
        row = (guessing + encoded - guessed, guessing + end - encoded)
        times[name].append((*row, sum(row), 8 * len(message) / size))
  rows = []
  for name, values in times.items():
    encode, decode, both, bpp = np.median(np.array(values), axis=0)
    rows.append(
      {
        'codec': name,
        'bpp': round(bpp, 4),
        'encode_mbit_s': round(size / encode / 1e6, 1),
        'decode_mbit_s': round(size / decode / 1e6, 1),
        'both_mbit_s': round(size / both / 1e6, 1),
      }
    )
  return rows


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--parameters', type=int, default=458_698)
  parser.add_argument('--drift', type=float, default=0.4, help='in logits')
  parser.add_argument('--repeats', type=int, default=15)
  parser.add_argument('--json', type=pathlib.Path)
  args = parser.parse_args()
  rows = measure(args.parameters, args.drift, args.repeats)
  print(f'{"codec":12}{"bpp":>8}{"encode":>9}{"decode":>9}{"both":>9}  Mbit/s')
  for row in rows:
    codec, bpp, *speeds = row.values()
    print(f'{codec:12}{bpp:8.4f}' + ''.join(f'{s:9.1f}' for s in speeds))
  if args.json:
    result = vars(args) | {'json': None, 'machine': platform.machine()}
    args.json.write_text(json.dumps({'arguments': result, 'rows': rows}) + '\n')


if __name__ == '__main__':
  main()
