"""Names, units and the record of a run: one JSON object a round.

Every metric is `group/name_unit`.  What is measured and what is estimated have
different names: `uplink/bpp_wire` is 8 * len(message) / d, header and checksum
included; `uplink/bpp_entropy` is the formula of the paper, for comparison.
"""

import json
import os
import pathlib
from typing import Any

from fedpm_jax.system import files

UNITS = {
  'round_idx': '0-based round',
  'train/loss': 'mean cross-entropy over the local steps, nats',
  'train/accuracy': 'share of training examples, while training',
  'eval/accuracy_sampled': 'test accuracy of one mask ~ Bernoulli(theta)',
  'eval/accuracy_mean': 'test accuracy of weights * theta, or of dense weights',
  'eval/accuracy_threshold': 'test accuracy of the mask theta >= 1/2',
  'eval/loss_sampled': 'nats',
  'eval/loss_mean': 'nats',
  'eval/loss_threshold': 'nats',
  'uplink/bytes': 'of all messages to the server this round',
  'uplink/bpp_wire': 'bits per parameter and client, measured',
  'uplink/bpp_entropy': "bits per parameter by the paper's estimator",
  'downlink/bytes': 'of all messages to the clients this round',
  'downlink/bpp_wire': 'bits per parameter and client, measured',
  'mask/density': 'share of ones in the masks that were sent',
  'server/theta_mean': 'mean of theta after the round',
  'server/step_norm': "l2 norm of the round's step of dense weights",
  'server/agreement': 'share of votes that are those of the majority',
  'time/round_s': 'wall time of the round, evaluation left out',
  'time/clients_s': 'of it, until the last symbols are on the host',
  'time/wire_s': 'CPU time of coding and decoding all messages',
  'time/eval_s': 'wall time of the evaluation',
  'time/total_s': 'wall time of all starts until then, set-up included',
}


def read_rows(path: pathlib.Path) -> list[dict[str, Any]]:
  """The rows of a metrics.jsonl; a last line cut off by a crash is left out.

  Raises:
    ValueError: if any other line is not a JSON object.
  """
  if not path.exists():
    return []
  rows = []
  lines = path.read_text().split('\n')
  for number, line in enumerate(lines, 1):
    if not line:
      continue
    try:
      row = json.loads(line)
    except json.JSONDecodeError as error:
      if number == len(lines):  # No newline behind it: a write was cut short.
        break
      raise ValueError(f'{path}:{number} is not JSON: {error}.') from error
    rows.append(row)
  return rows


class Recorder:
  """Appends a row a round; after a crash, continues where the state does."""

  def __init__(self, path: pathlib.Path, *, next_round: int):
    """Keeps the rows before `next_round` and drops those to be run again.

    Args:
      path: of metrics.jsonl.
      next_round: the first round that this process will record.

    Raises:
      ValueError: if a row of an earlier round is missing.
    """
    rows = [row for row in read_rows(path) if row['round_idx'] < next_round]
    if [row['round_idx'] for row in rows] != list(range(next_round)):
      raise ValueError(
        f'{path} should hold rounds 0 to {next_round - 1}, as the checkpoint'
        f' does, got {len(rows)} rows. Start again in a new --workdir.'
      )
    text = ''.join(_line(row) for row in rows)
    files.write_bytes(path, text.encode())
    self.rows = rows
    self._file = open(path, 'a')  # noqa: SIM115, closed in close()

  def append(self, row: dict[str, Any]) -> None:
    """Writes a row and makes sure that it is on the disk."""
    self._file.write(_line(row))
    self._file.flush()
    os.fsync(self._file.fileno())
    self.rows.append(files.to_json(row))

  def close(self) -> None:
    self._file.close()


def _line(row: dict[str, Any]) -> str:
  return json.dumps(files.to_json(row), allow_nan=False) + '\n'
