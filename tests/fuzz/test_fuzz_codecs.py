"""Hostile messages: some in every run of the tests, a million by hand.

    python -m pytest tests/fuzz --messages=1000000

This takes five to ten minutes and reports what became of each kind of message.

They are thrown at all rows of `codecs.CODECS`, so at a new one too: payloads of
damages.py at bare decoders, messages of attacks.py at `wire.decode`, in both
directions.  test_fuzz_halves.py does the same with servers and clients of all
methods.  What must hold is in judge.py.  Messages follow from the names of the
rows, and the first of a million are those of every run.
"""

import cases
import judge
import numpy as np
import pytest
import throwing

from fedpm_jax import codecs
from fedpm_jax.codecs import base, varint
from fedpm_jax.protocol import wire

ROWS = pytest.mark.parametrize('codec', codecs.CODECS)
KINDS = pytest.mark.parametrize('kind', wire.Kind, ids=lambda k: k.name.lower())
# The first byte of payloads; each form has checks of its own.
FORMS = {
  'theta_levels': {0, 1, 2, 4, 5},
  'theta_news': {0, 1, 2, 3, 4, 5},
  'levels': {0, 1, 2},
}


@ROWS
def test_bare_decoders_hold(codec, number):
  groups = cases.honest(codec, wire.Kind.UPLINK)
  throwing.throw_bare(codec, number, groups)


@ROWS
@KINDS
def test_messages_hold(codec, kind, number):
  address = cases.address(codec, kind)
  throwing.throw(
    'wire',
    f'{codec} {kind.name}',
    number,
    cases.honest(codec, kind),
    receive=lambda honest: (
      lambda message: wire.decode(message, honest.side, **address)
    ),
    check=judge.check_symbols,
  )


@pytest.mark.parametrize('codec', FORMS)
def test_every_form_of_a_payload_is_thrown(codec):
  groups = cases.honest(codec, wire.Kind.UPLINK)
  fronts = {honest.payload[:1] for group in groups for honest in group}
  assert fronts - {b''} == {bytes([form]) for form in FORMS[codec]}


def test_an_error_stays_short_where_a_message_has_many_numbers():
  """Of 200 contexts here; of these the fuzz rarely gets to all."""
  honest = cases.honest('theta_news', wire.Kind.UPLINK)[-1][0]
  contexts = np.unique(base.needed(honest.side.expected).context).size
  assert contexts > 150
  table = varint.encode(np.array([1, 5, *(1 + 2 * contexts) * [2**34]]))
  decode = lambda payload: codecs.CODECS['theta_news'].decode(
    payload, honest.symbols.size, honest.side
  )
  assert judge.judged('bare decoder', decode, b'\2' + table) is None
