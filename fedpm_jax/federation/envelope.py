"""A protocol message as a Flower message, and back.

One record, `fedpm`, holds a few small fields and the protocol's message as
opaque bytes.  What arrives may be anything: a record is read field by field,
each of its type and size, before anything else looks at it.

    ask       from the server: which round, which client, whose updates the last
              round added up, the hashes of the agreement, the broadcast
    answer    from a client: its id, how it went, its message, its sums
"""

import math
from typing import Any, NamedTuple

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict

from fedpm_jax.codecs import WireError
from fedpm_jax.federation.agreement import HASH_BYTES, MAX_BYTES
from fedpm_jax.system.text import short

RECORD = 'fedpm'
JOIN, TRAIN = 'query', 'train'  # Flower's types of messages
# How an answer can go.
UPDATE, FORGOTTEN, OTHER, HERE = 'update', 'forgotten', 'other', 'here'
_STATUS = (UPDATE, FORGOTTEN, OTHER, HERE)
_MAX_MESSAGE = 2**31


class Ask(NamedTuple):
  """What the server asks of a client in a round.

  Attributes:
    round_idx: 0-based.
    client: the id that the server has for it.
    last_ids: int `[K]`, whose updates the last round added up.
    terms: the hash of `Agreement.terms`.
    split: likewise.
    message: the broadcast; empty where the client is only asked who it is.
  """

  round_idx: int
  client: int
  last_ids: np.ndarray
  terms: bytes
  split: bytes
  message: bytes


class Answer(NamedTuple):
  """What a client answers.

  Attributes:
    client: its id.
    status: UPDATE; FORGOTTEN, it needs the whole theta; OTHER, it has another
      agreement; HERE, to the question who it is.
    message: of UPDATE, the client's message.
    sums: of UPDATE: loss, hits and examples, added up over the local steps.
    agreement: of OTHER, what it has, JSON.
  """

  client: int
  status: str
  message: bytes = b''
  sums: tuple[float, float, float] = (0.0, 0.0, 0.0)
  agreement: str = ''


def ask(content: Ask) -> RecordDict:
  """The records of an ask."""
  fields = content._asdict()
  fields['last_ids'] = np.asarray(content.last_ids, '<u4').tobytes()
  return RecordDict({RECORD: ConfigRecord(fields)})


def answer(content: Answer) -> RecordDict:
  """The records of an answer."""
  fields = content._asdict()
  fields['sums'] = list(content.sums)
  return RecordDict({RECORD: ConfigRecord(fields)})


def read_ask(message: Message) -> Ask:
  """What the server asks.

  Raises:
    WireError: it is no ask.
  """
  fields = _fields(message)
  ids = _taken(fields, 'last_ids', bytes, _MAX_MESSAGE)
  if len(ids) % 4:
    raise WireError(f'last_ids: got {len(ids)} B, expected a multiple of 4.')
  return Ask(
    _number(fields, 'round_idx'),
    _number(fields, 'client'),
    np.frombuffer(ids, '<u4').astype(np.int64),
    _taken(fields, 'terms', bytes, HASH_BYTES),
    _taken(fields, 'split', bytes, HASH_BYTES),
    _taken(fields, 'message', bytes, _MAX_MESSAGE),
  )


def read_answer(message: Message) -> Answer:
  """What a client answers.

  Raises:
    WireError: it is no answer.
  """
  fields = _fields(message)
  status = _taken(fields, 'status', str, 16)
  if status not in _STATUS:
    raise WireError(f'status: got {short(status)}, expected one of {_STATUS}.')
  sums = _taken(fields, 'sums', list, 3)
  if len(sums) != 3 or not all(
    isinstance(x, float) and math.isfinite(x) and x >= 0 for x in sums
  ):
    raise WireError(f'sums: got {short(sums)}, expected 3 numbers from 0 on.')
  return Answer(
    _number(fields, 'client'),
    status,
    _taken(fields, 'message', bytes, _MAX_MESSAGE),
    (sums[0], sums[1], sums[2]),
    _taken(fields, 'agreement', str, MAX_BYTES),
  )


def num_bytes(content: RecordDict) -> int:
  """What the records take on Flower's link, which sends object by object.

  The message's own object, 120 B of addresses and times, is not among them,
  nor what HTTP adds.
  """
  objects: list[Any] = [content]
  total = 0
  for each in objects:  # grows meanwhile
    total += len(each.deflate())
    objects += (each.children or {}).values()
  return total


def _fields(message: Message) -> dict[str, Any]:
  """The fields of the record; WireError where there is none."""
  content = message.content
  record = content.get(RECORD) if RECORD in content else None
  if not isinstance(record, ConfigRecord) or len(content) != 1:
    raise WireError(
      f'records: got {short(sorted(map(str, content)))}, expected [{RECORD!r}], a'
      ' ConfigRecord.'
    )
  return dict(record)


def _taken(
  fields: dict[str, Any], name: str, kind: type, most: int = MAX_BYTES
) -> Any:
  """A field, of its type and at most so long; WireError else."""
  value: Any = fields.get(name)
  if not isinstance(value, kind) or len(value) > most:
    got = short(value) if kind is not bytes else type(value).__name__
    raise WireError(
      f'{name}: got {got}, expected {kind.__name__}, at most {most} long.'
    )
  return value


def _number(fields: dict[str, Any], name: str) -> int:
  """A field that is a number in [0, 2^32); WireError else."""
  value = fields.get(name)
  if type(value) is not int or not 0 <= value < 2**32:
    raise WireError(f'{name}: got {short(value)}, expected 0 to 2^32 - 1.')
  return value
