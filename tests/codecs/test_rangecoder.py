"""What the range coder raises is a WireError, and an interrupt is not."""

import numpy as np
import pytest

from fedpm_jax import codecs
from fedpm_jax.codecs import rangecoder


def test_range_coder_panics_become_wire_errors(monkeypatch):
  class Panic(BaseException):
    """As pyo3's PanicException: not an Exception."""

  class Broken:
    def decode(self, *args):
      raise Panic('no such quantile')

  reader = rangecoder.Reader(b'')
  monkeypatch.setattr(reader, '_coder', Broken())
  with pytest.raises(codecs.WireError, match='no such quantile'):
    reader.bits(3, 7)
  with pytest.raises(codecs.WireError, match='no such quantile'):
    reader.levels(3, np.array([1, 2]))


def test_an_interrupt_is_not_a_wire_error(monkeypatch):
  class Interrupted:
    def decode(self, *args):
      raise KeyboardInterrupt

  reader = rangecoder.Reader(b'')
  monkeypatch.setattr(reader, '_coder', Interrupted())
  with pytest.raises(KeyboardInterrupt):
    reader.bits(3, 7)
