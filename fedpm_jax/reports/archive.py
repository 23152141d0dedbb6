"""The symbols of some rounds, kept beside a run's other files.

They are what `report --bits` compares codecs on.
"""

import io
import pathlib

import numpy as np

from fedpm_jax.simulation.rounds import Kept
from fedpm_jax.system import files

FOLDER = 'symbols'


def save(workdir: pathlib.Path, round_: Kept) -> None:
  """Writes `<workdir>/symbols/round_00029.npz`, whole or not at all."""
  path = pathlib.Path(workdir) / FOLDER / f'round_{round_.round_idx:05d}.npz'
  path.parent.mkdir(parents=True, exist_ok=True)
  buffer = io.BytesIO()
  np.savez(buffer, **round_._asdict())
  files.write_bytes(path, buffer.getvalue())


def load(workdir: pathlib.Path | str) -> list[Kept]:
  """All rounds that were kept, in order.

  Raises:
    ValueError: there is none.
  """
  paths = sorted((pathlib.Path(workdir) / FOLDER).glob('round_*.npz'))
  if not paths:
    raise ValueError(
      f'{workdir} keeps no symbols: train with config.wire.keep_every > 0 and'
      " a compressor whose symbols are masks, 'bernoulli'."
    )
  rounds = []
  for path in paths:
    with np.load(path, allow_pickle=False) as data:
      round_idx, *arrays = (data[name] for name in Kept._fields)
    rounds.append(Kept(int(round_idx), *arrays))
  return rounds
