"""Variable-length integers: every value has one code, and comes back."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from fedpm_jax import codecs
from fedpm_jax.codecs import varint


@hypothesis.settings(max_examples=40)
@hypothesis.given(
  values=st.lists(st.integers(0, 2**35 - 1), min_size=1, max_size=30),
  rest=st.binary(max_size=9),
)
def test_varint_round_trip(values, rest):
  data = varint.encode(np.array(values))
  assert len(data) == varint.size(np.array(values))
  got, used = varint.decode(data + rest, len(values))
  assert got.tolist() == values
  assert used == len(data)


def test_varint_refuses_six_bytes():
  assert varint.decode(b'\xff\xff\xff\xff\x7f', 1)[0] == 2**35 - 1
  for count in (1, 2):
    with pytest.raises(codecs.WireError, match='varint'):
      varint.decode(b'\x80\x80\x80\x80\x80\x01\x01', count)
