"""A method: algorithm x compressor x codecs, and what they need of each other.

What one part sends must be what the next one takes.  That is checked here,
once, where the parts meet, and before any data is read.
"""

from typing import Any, NamedTuple

import jax

from fedpm_jax import codecs
from fedpm_jax.algorithms.base import Algorithm
from fedpm_jax.compressors.base import Compressor
from fedpm_jax.models.network import Network
from fedpm_jax.prng import keys


class Method(NamedTuple):
  """What is trained, and how it travels; build it with `compose`.

  Attributes:
    network: the model and its frozen weights.
    algorithm: what clients train and what the server believes.
    compressor: from a client's update to symbols.
    uplink: the codec of a client's symbols, a key of `codecs.CODECS`.
    downlink: the codec of the payload, likewise.
  """

  network: Network
  algorithm: Algorithm
  compressor: Compressor
  uplink: str
  downlink: str

  @property
  def dithers_are_shared(self) -> bool:
    """True if both ends derive a mask's dithers: the server can guess it."""
    return 'guess' in codecs.CODECS[self.uplink].needs

  @property
  def downlink_needs_memory(self) -> bool:
    """True if a client that holds the last payload gets a shorter message."""
    return 'expected' in codecs.CODECS[self.downlink].needs

  @property
  def payload_is_foreseen(self) -> bool:
    """True if a client guesses the cohort's masks, and so the next payload."""
    return self.dithers_are_shared and self.downlink_needs_memory

  @property
  def symbols_are_bits(self) -> bool:
    """True if symbols are bits; they leave the device packed, 8 to a byte."""
    return self.compressor.symbols == 'mask'


def first_states(method: Method, seed: int) -> tuple[Any, Any]:
  """The states of the server and of one client before the first round.

  They follow from the seed, so that both ends make them for themselves.
  """
  key = keys.derive(seed, keys.Purpose.SCORES)
  return jax.jit(method.algorithm.init)(key)


class Names(NamedTuple):
  """What error messages call the parts."""

  algorithm: str = 'the algorithm'
  compressor: str = 'the compressor'


def compose(
  network: Network,
  algorithm: Algorithm,
  compressor: Compressor,
  *,
  uplink: str,
  downlink: str,
  private_randomness: bool = False,
  names: Names | None = None,
) -> Method:
  """The method of these parts.

  Args:
    network: the model and its frozen weights.
    algorithm: a row of `algorithms.ALGORITHMS`, or one's own.
    compressor: a row of `compressors.COMPRESSORS`, or one's own.
    uplink: a codec's name.
    downlink: a codec's name.
    private_randomness: refuse parts that only work where the server knows the
      clients' random numbers.
    names: of the parts, for errors.

  Raises:
    ValueError: the parts do not fit together; it says what to use instead.
  """
  names = names or Names()
  method = Method(network, algorithm, compressor, uplink, downlink)
  _check_codec('uplink', uplink, compressor.symbols)
  _check_dithers(method, names)
  if private_randomness:
    _check_private(method, names)
  _check_sorts(method, names)
  _check_codec('downlink', downlink, algorithm.payload)
  _check_theta(method, names)
  return method


def _check_codec(direction: str, name: str, symbols: str) -> None:
  """ValueError unless the direction's codec carries these symbols."""
  if name not in codecs.CODECS:
    raise ValueError(
      f'config.wire.{direction} must be one of {sorted(codecs.CODECS)}, got'
      f' {name!r}.'
    )
  if symbols not in codecs.base.DTYPES:
    raise ValueError(
      f'Symbols and payloads are of a sort in {sorted(codecs.base.DTYPES)}, got'
      f' {symbols!r} ({direction}).'
    )
  codec = codecs.CODECS[name]
  if codec.symbols != symbols:
    rows = [c.name for c in codecs.CODECS.values() if c.symbols == symbols]
    raise ValueError(
      f'config.wire.{direction} must be a codec of {symbols} symbols, one of'
      f' {rows}: {name!r} carries {codec.symbols}.'
    )


def _check_dithers(method: Method, names: Names) -> None:
  """ValueError where the uplink guesses masks that are not dithered."""
  if method.dithers_are_shared and not method.compressor.mask_is_dithered:
    raise ValueError(
      f'config.wire.uplink = {method.uplink!r} is for masks that are drawn with'
      " dithers, the compressor 'bernoulli': got"
      f" {names.compressor!r}. 'frequency' codes any mask."
    )


def _check_private(method: Method, names: Names) -> None:
  """ValueError where a part works only if the server knows random numbers."""
  parts = {
    'uplink': (method.uplink, method.dithers_are_shared),
    'compressor': (names.compressor, method.compressor.needs_shared_key),
  }
  for key, (name, shares) in parts.items():
    if shares:
      raise ValueError(
        f"config.wire.{key} = {name!r} derives each client's random numbers from"
        ' a key that the server has, too; config.wire.private_randomness forbids'
        " it. For FedPM, use the compressor 'bernoulli' with the uplink 'prior';"
        " of dense methods, 'terngrad' and 'qsgd' share nothing."
      )


def _check_sorts(method: Method, names: Names) -> None:
  """ValueError unless the compressor takes and gives what it should."""
  algorithm, compressor = method.algorithm, method.compressor
  if (compressor.update, compressor.aggregated) != (
    algorithm.update,
    algorithm.aggregated,
  ):
    raise ValueError(
      f'config.algorithm = {names.algorithm!r} sends a {algorithm.update} and'
      f' expects a {algorithm.aggregated}, config.wire.compressor ='
      f' {names.compressor!r} turns a {compressor.update} into a'
      f' {compressor.aggregated}: see the table in docs/methods.md.'
    )


def _check_theta(method: Method, names: Names) -> None:
  """ValueError where the uplink relies on a theta that is not there."""
  codec = codecs.CODECS[method.uplink]
  if {'q', 'guess'} & {*codec.needs} and method.algorithm.payload != 'theta':
    raise ValueError(
      f'config.wire.uplink = {codec.name!r} needs a theta that both ends know:'
      f' {names.algorithm!r} broadcasts {method.algorithm.payload}. Use'
      " 'frequency'."
    )
  if codec.theta_is_probability and not method.compressor.symbols_are_the_mask:
    raise ValueError(
      f'config.wire.uplink = {codec.name!r} takes theta for the probability of a'
      f' bit: what {names.compressor!r} sends are no masks. Use'
      " 'per_level' or 'frequency'."
    )
