"""Levels of a quantiser: entropy-coded with exact counts, behind raw scales.

Compressors of weight updates send bytes of float32 scales, which are as good as
random, and many small integers with few values, the levels.  `side.sizes[0]` is
the number of those bytes.  Each other part (a tensor, or all chunks together)
has a table of counts of its own; all parts share one if their tables would cost
more than they save.  Counts are integers, so both ends build the same model,
and the decoder counts again what it has decoded.

Payload (varint: see varint.py), where H is the first part and n = d - H:

    1 B                   form: 0 raw, 1 one table, 2 a table for each part
    H B                   the first part
    form 0:
      n B                 the levels
    forms 1 and 2:
      1 B                 the lowest level
      1 B                 the highest level
      A or P A varints    how often each level between them occurs, all A of
                          a part together, P parts; A = highest - lowest + 1
      4 B words           range coder: n levels, as indices in [0, A)

Form 0 is for the smallest messages, whose table would be longer than they are.
So no payload is longer than d + 13 bytes.
"""

import numpy as np

from fedpm_jax.codecs import base, rangecoder, varint

_RAW, _SHARED, _PER_PART = range(3)


def _bits(counts: np.ndarray) -> float:
  """About how many bits form, table and stream take.

  Args:
    counts: int64 `[1 or P, A]`.
  """
  # The entropy of the levels, which the stream comes close to.  A level that
  # does not occur takes nothing, but log2 of 0 would be -inf.
  totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
  share = counts / totals
  information = -np.log2(share, where=share > 0, out=np.zeros_like(share))
  table = 2 + varint.size(counts.ravel())
  return 8 * table + float((counts * information).sum())


def _encode(symbols: np.ndarray, side: base.SideInformation) -> bytes:
  # The head goes as it is: its bytes are as good as random.
  head, *parts = base.split(symbols, side.sizes)
  levels = symbols[head.size :]
  raw = bytes([_RAW]) + symbols.tobytes()
  if not levels.size:
    return raw
  lowest, highest = int(levels.min()), int(levels.max())
  size = highest - lowest + 1
  each = np.stack(
    [np.bincount(part - lowest, minlength=size) for part in parts]
  )
  # A shared table is shorter, but tables of their own fit the parts better.
  tables = {_SHARED: each.sum(axis=0)[None], _PER_PART: each}
  form = min(tables, key=lambda form: _bits(tables[form]))
  counts = tables[form]
  if _bits(counts) >= 8 * levels.size:
    return raw
  writer = rangecoder.Writer()
  sizes = side.sizes[1:] if form == _PER_PART else (levels.size,)
  for part, row in zip(base.split(levels, sizes), counts, strict=True):
    writer.levels(part - lowest, row)
  table = bytes([lowest, highest]) + varint.encode(counts.ravel())
  return bytes([form]) + head.tobytes() + table + writer.finish()


def _decode(
  payload: base.Payload, count: int, side: base.SideInformation
) -> np.ndarray:
  head_size = side.sizes[0]
  if len(payload) < 1 + head_size:
    raise base.WireError(
      f'levels: payload: got {len(payload)} B, expected at least'
      f' {1 + head_size}.'
    )
  form, rest = payload[0], payload[1 + head_size :]
  if form not in (_RAW, _SHARED, _PER_PART):
    raise base.WireError(f'levels: form: got {form}, expected 0, 1 or 2.')
  symbols = np.zeros(count, np.uint8)
  symbols[:head_size] = np.frombuffer(payload, np.uint8, head_size, 1)
  body = symbols[head_size:]
  if form == _RAW:
    if len(rest) != body.size:
      raise base.WireError(
        f'levels: raw: got {len(rest)} B, expected {body.size}.'
      )
    body[:] = np.frombuffer(rest, np.uint8)
    return symbols
  # `part` below is a view of `symbols`, which this fills part by part.
  sizes = side.sizes[1:] if form == _PER_PART else (body.size,)
  lowest, counts, rest = _read_table(rest, sizes)
  reader = rangecoder.Reader(rest)
  for part, row in zip(base.split(body, sizes), counts, strict=True):
    indices = reader.levels(part.size, row)
    # Damaged bytes decode to other levels, which the counts reveal.
    if (np.bincount(indices, minlength=row.size) != row).any():
      raise base.WireError('levels: counts are not those of the levels.')
    part[:] = lowest + indices
  reader.finish()
  return symbols


def _read_table(
  payload: base.Payload, sizes: tuple[int, ...]
) -> tuple[int, np.ndarray, base.Payload]:
  """The lowest level, the counts `[parts, A]`, validated, and what follows."""
  if not any(sizes) or len(payload) < 2 or payload[0] > payload[1]:
    raise base.WireError(
      f'levels: lowest and highest: got {list(payload[:2])} for {sum(sizes)}'
      ' levels, expected two bytes, in this order, for at least one.'
    )
  lowest, size = payload[0], payload[1] - payload[0] + 1
  table, used = varint.decode(payload[2:], len(sizes) * size)
  counts = table.reshape(len(sizes), size)
  # An encoder's table begins and ends with a level that occurs.
  ends_occur = counts[:, [0, -1]].any(axis=0).all()
  if not ends_occur or (counts.sum(axis=1) != sizes).any():
    raise base.WireError('levels: counts do not add up.')
  return lowest, counts, payload[2 + used :]


LEVELS = base.checked(
  name='levels', number=11, symbols='levels', encode=_encode, decode=_decode
)
