"""What a codec is: symbols to bytes and back, losslessly, and nothing else.

Dimensions: d maskable parameters, L tensors.

A codec is three small things: the symbols it carries (a row of `DTYPES`), an
`encode` and a `decode`.  `checked` wraps both with the checks that every codec
needs, so that a codec's own file holds only what is particular to it.

The exception says who made the mistake.  A caller who hands over wrong symbols
or wrong side information gets a ValueError.  Bytes that no encoder can have
written give a WireError.  Checksums, rounds and clients are the business of
`protocol.wire`.  A codec trusts that its payload is the one that was sent;
where it is not, the codec must only stay safe (bounded time and memory,
WireError).
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

# theta = q / THETA_SCALE with q in [1, THETA_SCALE - 1].  A probability is
# always this integer, because two machines may differ in the last bit of a
# float, and an arithmetic decoder that is off by one bit decodes noise.
THETA_SCALE = 65536

# What can be coded: the sort of symbols and its type.
DTYPES = {
  'mask': np.dtype(np.bool_),
  'theta': np.dtype(np.uint16),
  'index': np.dtype(np.uint16),
  'levels': np.dtype(np.uint8),
  'float32': np.dtype(np.float32),
}


class WireError(ValueError):
  """Received bytes are not what an honest sender of this format writes."""


class Guess(NamedTuple):
  """A mask as far as it follows from shared dithers; see `codecs.dither`.

  Attributes:
    mask: bool `[d]`, the most probable mask.
    distance: uint16 `[d]`, how far theta is from the dither, in 1/256 logit.
  """

  mask: np.ndarray
  distance: np.ndarray


class Expected(NamedTuple):
  """A theta as far as a client can foresee it; see `codecs.theta_news`.

  Attributes:
    q: uint16 `[d]` in [1, 65535], the most probable theta * 65536.
    context: uint8 `[d]`; positions that behave alike have the same number.
  """

  q: np.ndarray
  context: np.ndarray


class SideInformation(NamedTuple):
  """What sender and receiver both know before the message.

  Attributes:
    q: the theta that both ends know, uint16 `[d]` in [1, 65535] with
      theta = q / 65536; None where there is none.
    sizes: sizes of the L tensors, in the order of the symbols; their sum is d.
    guess: of the mask, where its dithers are shared; else None.
    expected: what to expect of the theta that is sent, where the receiver has
      an older one; else None.
  """

  q: np.ndarray | None = None
  sizes: tuple[int, ...] = ()
  guess: Guess | None = None
  expected: Expected | None = None


# What is sent; a view where the symbols are sent as they lie in memory.
Payload = bytes | memoryview

_Field = TypeVar('_Field')


class Codec(NamedTuple):
  """A lossless code; build it with `checked`.

  Attributes:
    name: the key in `CODECS`.
    number: the codec's number in a message's header, 1 to 255.  It is part of
      the format: never reuse one.
    symbols: what is coded, a key of `DTYPES`.
    encode: (symbols `[d]`, side) -> payload; ValueError on a caller's mistake.
    decode: (payload, d, side) -> symbols `[d]`, perhaps a read-only view of
      the payload; WireError on odd bytes, ValueError on a caller's mistake.
      The payload may itself be a view if `payload_is_symbols`.
    needs: fields of the side information that both ends must have.
    fallback: the codec for a receiver that lacks what this one needs; empty
      where there is none.
    theta_is_probability: the code takes theta, `side.q`, for the probability of
      a one, so it suits only masks that are sampled.
    payload_is_symbols: the payload is `symbol_bytes(symbols)`, nothing else.
  """

  name: str
  number: int
  symbols: str
  encode: Callable[[np.ndarray, SideInformation], Payload]
  decode: Callable[[Payload, int, SideInformation], np.ndarray]
  needs: tuple[str, ...] = ()
  fallback: str = ''
  theta_is_probability: bool = False
  payload_is_symbols: bool = False


def checked(
  *,
  name: str,
  number: int,
  symbols: str,
  encode: Callable[[np.ndarray, SideInformation], Payload],
  decode: Callable[[Payload, int, SideInformation], np.ndarray],
  needs: tuple[str, ...] = (),
  fallback: str = '',
  theta_is_probability: bool = False,
  payload_is_symbols: bool = False,
) -> Codec:
  """A codec whose arguments and results are checked around the bare functions.

  Args:
    name: see `Codec`.
    number: see `Codec`.
    symbols: see `Codec`.
    encode: as `Codec.encode`; sees only valid symbols and side information.
    decode: as `Codec.decode`; must raise WireError itself where the payload is
      not well-formed, but may leave the range of its symbols to this wrapper.
    needs: see `Codec`; the fields are checked before the code sees them.
    fallback: see `Codec`.
    theta_is_probability: see `Codec`.
    payload_is_symbols: see `Codec`.

  Returns:
    The codec.  The empty vector (d = 0) is always the empty payload; the bare
    functions are never called for it.
  """

  def checked_encode(values: np.ndarray, side: SideInformation) -> Payload:
    if getattr(values, 'dtype', None) != DTYPES[symbols] or values.ndim != 1:
      raise ValueError(
        f'{name}: symbols must be a {DTYPES[symbols]} [d] array, got'
        f' {getattr(values, "dtype", type(values).__name__)}'
        f' {getattr(values, "shape", "")}.'
      )
    _check_side(name, values.size, side, needs)
    problem = _out_of_range(values, symbols)
    if problem:
      raise ValueError(f'{name}: {problem}.')
    return encode(values, side) if values.size else b''

  def checked_decode(
    payload: Payload, count: int, side: SideInformation
  ) -> np.ndarray:
    _check_side(name, count, side, needs)
    if not count:
      if payload:
        raise WireError(f'{name}: payload: got {len(payload)} B, expected 0.')
      return np.zeros(0, DTYPES[symbols])
    values = decode(payload, count, side)
    problem = _out_of_range(values, symbols)
    if problem:
      raise WireError(f'{name}: {problem}.')
    return values

  return Codec(
    name,
    number,
    symbols,
    checked_encode,
    checked_decode,
    needs,
    fallback,
    theta_is_probability,
    payload_is_symbols,
  )


def needed(field: _Field | None) -> _Field:
  """A field of the side information that the codec names in its `needs`.

  `checked` refuses side information that lacks such a field before the codec
  sees it, but a type checker cannot know that.
  """
  assert field is not None, 'The codec does not name this field in its needs.'
  return field


def symbol_bytes(symbols: np.ndarray) -> memoryview:
  """The symbols as every machine writes them: packed bits, or little-endian.

  Args:
    symbols: `[d]`; not copied where they lie in memory like that already.

  Returns:
    A view of bytes.
  """
  if symbols.dtype == np.bool_:
    return np.packbits(symbols).data
  little = symbols.astype(symbols.dtype.newbyteorder('<'), copy=False)
  return np.ascontiguousarray(little).view(np.uint8).data


def frequency_of_ones(ones: npt.ArrayLike, total: npt.ArrayLike) -> np.ndarray:
  """The probability of a one, as an integer: 65536 * ones / total, rounded.

  Args:
    ones: how many ones were seen, integers `[...]`.
    total: among how many symbols, integers `[...]`; may be zero.

  Returns:
    int64 `[...]` in [1, 65535], so that a mask without ones (or without
    zeros) still leaves both symbols possible.
  """
  ones, total = np.asarray(ones, np.int64), np.asarray(total, np.int64)
  at_least_one = np.maximum(total, 1)
  # Half the divisor is added before the division, which rounds in integers.
  q = (ones * THETA_SCALE + at_least_one // 2) // at_least_one
  return np.clip(q, 1, THETA_SCALE - 1)


def split(values: np.ndarray, sizes: tuple[int, ...]) -> list[np.ndarray]:
  """The L tensors of a flat vector `[d]`, as views."""
  ends = np.cumsum(sizes, dtype=np.int64)
  return [values[e - size : e] for e, size in zip(ends, sizes, strict=True)]


def _check_side(
  name: str, count: int, side: SideInformation, needs: tuple[str, ...]
) -> None:
  """ValueError unless `side` is for `count` symbols and has what it needs."""
  if any(size < 0 for size in side.sizes) or sum(side.sizes) != count:
    raise ValueError(
      f'{name}: side.sizes must be >= 0 and sum to the number of symbols:'
      f' got {sum(side.sizes)}, expected {count}.'
    )
  for need in needs:
    value = getattr(side, need)
    fields = _FIELDS[need]
    # `q` is an array itself; `guess` and `expected` are named tuples of arrays.
    arrays = {'': value} if need == 'q' else getattr(value, '_asdict', dict)()
    for field, dtype in fields.items():
      array = arrays.get(field)
      label = f'{name}: side.{need}{"." if field else ""}{field}'
      if array is None or array.dtype != dtype or array.shape != (count,):
        got = None if array is None else (str(array.dtype), array.shape)
        raise ValueError(f'{label} must be {dtype} ({count},), got {got}.')
      if dtype == np.uint16 and field in ('', 'q') and not array.all():
        raise ValueError(f'{label} must lie in [1, 65535], got 0.')


# The arrays of each field, by name, and their types; the only array of `q` has
# no name.
_FIELDS = {
  'q': {'': np.dtype(np.uint16)},
  'guess': {'mask': np.dtype(np.bool_), 'distance': np.dtype(np.uint16)},
  'expected': {'q': np.dtype(np.uint16), 'context': np.dtype(np.uint8)},
}


def _out_of_range(values: np.ndarray, symbols: str) -> str:
  """Says why these values are no symbols of this sort; empty where they are."""
  if symbols == 'theta' and not values.all():
    return 'theta: got q = 0, expected [1, 65535]'
  if symbols == 'float32' and not _all_finite(values):
    return 'float32: got NaN or infinity, expected finite values'
  return ''


def _all_finite(values: np.ndarray) -> bool:
  """np.isfinite(values).all(), in a third of the time where it is true."""
  # Infinities and NaN survive in a sum of squares.  Large finite numbers may
  # make it overflow, so only then each number is looked at.
  with np.errstate(over='ignore', invalid='ignore'):
    squares = np.dot(values, values)
  return bool(np.isfinite(squares) or np.isfinite(values).all())
