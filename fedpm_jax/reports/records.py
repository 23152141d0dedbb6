"""Names, units and the record of a run: one JSON object a round.

Every metric is `group/name_unit`.  What is measured and what is estimated have
different names: `uplink/bpp_wire` is 8 * len(message) / d, header and checksum
included; `uplink/bpp_entropy` is the formula of the paper, for comparison.
"""

import json
import os
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from fedpm_jax.system import files, reading

UNITS = {
  'round_idx': '0-based round',
  'train/loss': 'mean cross-entropy over the local steps, nats',
  'train/accuracy': 'share of training examples, while training',
  'eval/accuracy_sampled': 'test accuracy of one mask ~ Bernoulli(theta)',
  'eval/accuracy_mean': 'test accuracy of weights * theta, or of dense weights',
  'eval/accuracy_threshold': 'test accuracy of the mask theta >= 1/2',
  'eval/accuracy_sampled_mean': 'mean over evaluation.masks sampled masks',
  'eval/accuracy_sampled_std': 'their standard deviation, n - 1',
  'eval/accuracy_vote': 'test accuracy of their majority vote',
  'eval/accuracy_ensemble': 'test accuracy of their mean logits',
  'eval/client_accuracy_mean': "of the mean network by each client's labels",
  'eval/client_accuracy_worst_tenth': 'likewise, of the worst tenth of clients',
  'eval/loss_sampled': 'nats',
  'eval/loss_mean': 'nats',
  'eval/loss_threshold': 'nats',
  'uplink/bytes': 'of all messages to the server this round',
  'uplink/bpp_wire': 'bits per parameter and client, measured',
  'uplink/bpp_entropy': "bits per parameter by the paper's estimator",
  'downlink/bytes': 'of all messages to the clients this round',
  'downlink/bpp_wire': 'bits per parameter and client, measured',
  'mask/density': 'share of ones in the masks that were sent',
  'privacy/epsilon_bit': 'of randomised response, one bit in one round',
  'privacy/epsilon_bit_total': 'of one position, all rounds, worst client',
  'robust/left_out': 'clients whose masks were too far from theta to count',
  'server/theta_mean': 'mean of theta after the round',
  'server/step_norm': "l2 norm of the round's step of dense weights",
  'server/agreement': 'share of votes that are those of the majority',
  'federation/answers': 'clients whose messages the server has counted',
  'federation/late': 'answers to a round that was over',
  'federation/twice': 'second answers of a client in a round',
  'federation/refused': 'answers that were malformed, or of others',
  'federation/failed': 'clients whose program has raised an exception',
  'federation/forgotten': 'clients that have asked for the whole theta',
  'federation/absent': 'clients that have not answered in time',
  'federation/bytes_down': "of Flower's records to clients, all included",
  'federation/bytes_up': 'likewise, of those that have arrived',
  'time/round_s': 'wall time of the round, evaluation left out',
  'time/clients_s': 'of it, until the last symbols are on the host',
  'time/wire_s': 'CPU time of coding and decoding all messages',
  'time/eval_s': 'wall time of the evaluation',
  'time/total_s': 'wall time of all starts until then, set-up included',
}


ACCURACY = 'eval/accuracy_mean'  # in every row that was evaluated
SPREAD = 'eval/accuracy_sampled_std'  # of the masks, where there are several
# What every row has, because a summary, a table or a picture needs it; whatever
# else is there is a number, or null where it was not finite.
ROW: reading.Shape = {
  'round_idx': range(2**32),
  'uplink/bytes': range(10**15),
  'uplink/bpp_wire': float,
  'downlink/bytes': range(10**15),
  'downlink/bpp_wire': float,
  'time/round_s': float,
  str: (float, type(None)),
}
_AGAIN = 'Start the run again: its last checkpoint has the rows until then.'


def evaluated_on(config: dict[str, Any]) -> str:
  """Which set the metrics `eval/...` of a run are of: 'test' or 'validation'.

  Args:
    config: as in config.json; one of an older version has test sets only.
  """
  data = config.get('data')
  share = data.get('validation') if isinstance(data, dict) else None
  return 'validation' if share else 'test'


def check_row(row: Any, field: str = '') -> None:
  """Raises ValueError for a row of another shape; it names the metric.

  Args:
    row: a value of JSON.
    field: what it is called, see `reading.check`.
  """
  reading.check(row, ROW, field)
  if ACCURACY not in row and any(name.startswith('eval/') for name in row):
    raise ValueError(f'it was evaluated, and has no field {ACCURACY!r}')
  for name, value in row.items():
    is_share = name.startswith(('eval/accuracy_', 'eval/client_accuracy_'))
    if is_share and (value is None or not 0 <= value <= 1):
      raise ValueError(f'{name[:60]!r} must lie in [0, 1], got {value}')


def read_rows(path: pathlib.Path) -> list[dict[str, Any]]:
  """The rows of a metrics.jsonl: all rounds from 0 on, in their order.

  A last line that was cut off by a crash is left out.

  Returns:
    The rows; none where there is no file.

  Raises:
    FileError: any other line is not the row of its round.
  """
  return list(_rows(path))


def good_rows(path: pathlib.Path) -> list[dict[str, Any]]:
  """The rows before the first one that is damaged or missing."""
  rows = []
  try:
    for row in _rows(path):
      rows.append(row)
  except reading.FileError:
    pass
  return rows


def _rows(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  """One row after the other; FileError at the first that is none."""
  if not path.exists():
    return
  lines = reading.read_json_lines(path, dict, remedy=_AGAIN)
  for round_idx, row in enumerate(lines):
    try:
      check_row(row)
      if row['round_idx'] != round_idx:
        raise ValueError(
          f'round_idx must be {round_idx}, a line for every round from 0 on,'
          f' got {row["round_idx"]}'
        )
    except ValueError as error:
      line = round_idx + 1
      raise reading.FileError(path, str(error), _AGAIN, line=line) from error
    yield row


def checksum(rows: list[dict[str, Any]]) -> str:
  """Eight hex digits that tell whether any number of these rows has changed."""
  return f'{zlib.crc32(_text(rows)):08x}'


class Mark(NamedTuple):
  """Which rows of a file a checkpoint was written after.

  Attributes:
    path: of the metrics.jsonl.
    size: bytes of these rows, from the beginning of the file.
    crc32: `checksum` of the rows.
  """

  path: pathlib.Path
  size: int
  crc32: str


class Recorder:
  """Appends a row a round."""

  def __init__(self, path: pathlib.Path, rows: list[dict[str, Any]]):
    """Writes the file anew, with the rows of the rounds before.

    Args:
      path: of metrics.jsonl.
      rows: of the checkpoint that the run goes on from; those of later rounds
        are dropped, because the rounds are run again.
    """
    text = _text(rows)
    files.write_bytes(path, text)
    self.rows = list(rows)
    self._path, self._size, self._crc = path, len(text), zlib.crc32(text)
    self._file = open(path, 'ab')  # noqa: SIM115, closed in close()

  def append(self, row: dict[str, Any]) -> None:
    """Writes a row and makes sure that it is on the disk."""
    line = _text([row])
    self._file.write(line)
    self._file.flush()
    os.fsync(self._file.fileno())
    self.rows.append(files.to_json(row))
    self._size += len(line)
    self._crc = zlib.crc32(line, self._crc)

  @property
  def mark(self) -> Mark:
    """The rows so far."""
    return Mark(self._path, self._size, f'{self._crc:08x}')

  def close(self) -> None:
    self._file.close()


def _text(rows: list[dict[str, Any]]) -> bytes:
  """A line of JSON for each row."""
  lines = [json.dumps(files.to_json(row), allow_nan=False) for row in rows]
  return ''.join(f'{line}\n' for line in lines).encode()
