"""Whatever a name holds, what is shown of it is one line that prints."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpm_jax.system import text


@pytest.mark.parametrize(
  ('given_text', 'shown'),
  [
    ('', ''),
    ('fedpm, lr=0.1 | <b> $x$ `y`', 'fedpm, lr=0.1 | <b> $x$ `y`'),
    ('größe 大小 ∑ 😀', 'größe 大小 ∑ 😀'),
    ('a\nb\r\tc', r'a\nb\r\tc'),
    ('\x1b[31mred\x07\x00', r'\x1b[31mred\x07\x00'),
    ('a\x85b\u2028c\u2029d', r'a\x85b\u2028c\u2029d'),
    ('left\u202eright\u200b', r'left\u202eright\u200b'),
    (os.fsdecode(b'run\xff'), r'run\udcff'),
    ('\U000e0001', r'\U000e0001'),
  ],
)
def test_only_what_does_not_print_is_escaped(given_text, shown):
  assert text.printable(given_text) == shown


@given(st.text(st.characters()))
def test_any_text_becomes_one_line_that_can_be_encoded(any_text):
  shown = text.printable(any_text)
  assert shown.isprintable()
  assert len(shown.splitlines()) <= 1
  shown.encode()
  assert text.printable(shown) == shown


def test_a_value_is_short_in_a_message_whatever_it_is():
  for value in ('x' * 10**6, 10**4000, list(range(10**5)), {'a': ['b' * 999]}):
    assert len(text.short(value)) < 200
  assert text.short('x\n') == r"'x\n'"
  assert text.short('x' * 99, 400) == repr('x' * 99)


def test_one_line_of_many():
  assert text.one_line('a\n  b\r\nc') == 'a b c'
  assert text.one_line(ValueError('a\nb')) == 'a b'


@pytest.mark.parametrize(
  ('seconds', 'shown'),
  [
    (0.4, '0 s'),
    (99, '99 s'),
    (100, '2 min'),
    (5400, '90 min'),
    (6000, '1 h 40 min'),
    (90000, '25 h 0 min'),
  ],
)
def test_durations(seconds, shown):
  assert text.duration(seconds) == shown
