"""Model files of strangers: the right model or one error, at no cost."""

import json
import struct
import subprocess
import sys
import zlib

import hypothesis
import json_values
import model_files
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import strategies as st

from fedpm_jax.models import network as networks
from fedpm_jax.models import parameters
from fedpm_jax.protocol import model_file

# ------------------------------------------------------- small files, no cost

# (changes of the specification, payload of the message or None for no message)
SMALL = [
  ({'image_shape': (330_000, 1, 1)}, None),
  ({'image_shape': (2000, 2000, 1)}, None),
  ({'image_shape': (2000, 2000, 1), 'model': 'conv2'}, None),
  ({'num_classes': 8_000_000}, None),
  ({'image_shape': (2000, 2000, 1)}, b'\1\0'),
  ({'num_classes': 8_000_000}, b'\1\0'),
  ({'image_shape': (2**13, 2**13, 1), 'model': 'conv8'}, b'\1\0'),
  ({'image_shape': (2**26, 1, 1)}, b'\1\0'),
  # The most that a message of this length may ask for.
  ({'image_shape': (27_000, 1, 1)}, b'\1\0'),
]


def small_files(folder):
  """Writes them; their paths."""
  paths = []
  for i, (changes, payload) in enumerate(SMALL):
    for grouping in ('dither', 'tensor'):
      for codec in ('bitpack', 'frequency', 'per_tensor', 'raw'):
        data = model_files.forged(
          model_files.SPEC._replace(**changes), grouping, codec, payload or b''
        )
        if payload is None:
          data = model_files.sealed(model_files.parts(data)[0], b'')
        assert len(data) < 300
        paths.append(folder / f'{i}-{grouping}-{codec}.fedpm')
        paths[-1].write_bytes(data)
  return paths


MEASURE = """
import json, resource, sys, time
from fedpm_jax.protocol import model_file
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
model_file.load(sys.argv[1])
for path in sys.argv[2:]:
  before, start, error = peak(), time.process_time(), 'none'
  try:
    model_file.load(path)
  except model_file.ModelFileError as e:
    error = str(e)
  seconds = time.process_time() - start
  print(json.dumps([path, error, seconds, peak() - before]), flush=True)
"""


def test_a_small_file_takes_neither_time_nor_memory(tmp_path):
  model_files.models()[0].save(tmp_path / 'good.fedpm')
  paths = small_files(tmp_path)
  result = subprocess.run(
    [sys.executable, '-c', MEASURE, tmp_path / 'good.fedpm', *paths],
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert result.returncode == 0, result.stderr
  rows = [json.loads(line) for line in result.stdout.splitlines()]
  assert len(rows) == len(paths)
  for path, error, seconds, _ in rows:
    assert error.startswith(f'{path}: it is not a valid model: '), rows
    assert seconds < 2, rows  # 0.5 at most where two cores are quiet
  assert sum(megabytes for *_, megabytes in rows) < 300, rows


@pytest.mark.parametrize('at', [*range(30), -1])
def test_a_wrong_header_is_found_before_dithers_are_drawn(
  tmp_path, monkeypatch, at
):
  monkeypatch.setattr(model_file, '_dithers', None)
  monkeypatch.setattr(model_file, '_fingerprint', None)
  description, message = model_files.parts(model_files.models()[0].data)
  message = bytearray(message)
  message[at] ^= 1
  if at >= 0:  # The message's own checksum is right, too.
    crc = zlib.crc32(
      message[model_files.HEAD.size : -4] + message[: model_files.HEAD.size]
    )
    message[-4:] = struct.pack('<I', crc)
  description['grouping'] = 'dither'
  model_files.refused(
    tmp_path / 'x', model_files.sealed(description, bytes(message)), 'got '
  )


def test_the_smallest_codec_must_obey_the_rule_too(tmp_path, monkeypatch):
  """An empty mask takes a few bytes, unless the network is too long for them.

  The bound is made small here; a real one of 17 million parameters is slow.
  """
  size = networks.build(model_files.SPEC).layout.num_parameters
  empty = np.zeros(size, np.bool_)
  short = model_file.make(model_files.SPEC, empty)
  assert short.num_bytes < 300
  monkeypatch.setattr(
    model_file, 'most_parameters', lambda num_bytes: 8 * num_bytes
  )
  longer = model_file.make(model_files.SPEC, empty)
  assert longer.num_bytes > size // 8
  np.testing.assert_array_equal(longer.mask, empty)
  model_files.refused(
    tmp_path / 'x', short.data, r'has 33\d{3} parameters, expected at most'
  )


def test_a_network_too_large_for_any_file_is_refused(monkeypatch):
  monkeypatch.setattr(model_file, '_MAX_PARAMETERS', 2**15)
  size = networks.build(model_files.SPEC).layout.num_parameters
  with pytest.raises(
    ValueError, match=r'at most 32768 parameters, got 33\d{3}'
  ):
    model_file.make(model_files.SPEC, np.zeros(size, np.bool_))


def test_the_places_of_a_huge_image_are_not_made(tmp_path, monkeypatch):
  """A transformer has a random vector for each, and asks for its value."""
  monkeypatch.setattr(parameters, '_frozen', None)
  spec = model_files.SPEC._replace(model='vit', image_shape=(2**11, 2**11, 1))
  fields = spec._asdict()
  del fields['value_range'], fields['unscaled']
  description = {'spec': fields, 'grouping': 'tensor', 'codec': 'raw'}
  data = model_files.sealed(description | {'weights_sha256': '0' * 16}, b'')
  model_files.refused(
    tmp_path / 'x', data, r'50,336,640 parameters.*at most 16,777,216'
  )


@pytest.mark.parametrize('num_bytes', [1, 2**16, 2**22])
def test_a_bit_for_each_parameter_is_always_allowed(num_bytes):
  assert 8 * num_bytes <= model_file.most_parameters(num_bytes)


# ------------------------------------------------------------------------ laws

OFTEN = st.sampled_from(
  [0, -1, 2, 8, 2**32, 10**400, 0.5, 1e300, -0.0, 'lenet', 'raw', 'tensor']
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
  SCALARS | OFTEN,
  lambda inner: (
    st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3)
  ),
  max_leaves=6,
)
# Of the type that was there: some of these are another right description.
LIKE = {
  int: st.integers(0, 2**33),
  float: st.floats() | st.integers(),
  list: st.lists(st.integers(1, 8) | st.floats(-9, 9), min_size=2, max_size=3),
}


def places(value, path=()):
  """The paths of a JSON value and of all that is in it."""
  yield path, value
  inside = enumerate(value) if isinstance(value, list) else ()
  if isinstance(value, dict):
    inside = [*value.items(), ('another', None)]
  for key, item in inside:
    yield from places(item, (*path, key))


def assert_error_or_what_the_bytes_say(path, data, values):
  path.write_bytes(data)
  model, error = None, ''
  try:
    model = model_file.load(path)
  except model_file.ModelFileError as raised:
    error = str(raised)
  hypothesis.event('an error' if error else 'a model')
  if model is None:
    assert error.startswith(f'{path}: ')
    assert error.isprintable()
    return
  fields = model_files.parts(data)[0]['spec']
  spec = model.spec._asdict()
  defaults = {'value_range': None, 'unscaled': ''}
  assert {*fields, *defaults} == {*spec}
  for name, got in spec.items():
    want = (defaults | fields)[name]
    assert got == (tuple(want) if isinstance(want, list) else want)
  assert all(type(n) is int for n in (spec['seed'], *spec['image_shape']))
  # Another seed or grouping is another order of the same values.
  np.testing.assert_array_equal(np.sort(model.values), np.sort(values))


@hypothesis.settings(max_examples=200)
@hypothesis.given(data=st.data())
def test_any_value_at_any_place(tmp_path_factory, data):
  model = data.draw(st.sampled_from(model_files.models()))
  description, values = model_files.parts(model.data)
  for _ in range(data.draw(st.integers(1, 2))):
    path, old = data.draw(st.sampled_from([*places(description)]))
    any_type = data.draw(st.booleans())
    new = data.draw(VALUES if any_type else LIKE.get(type(old), VALUES))
    description = json_values.placed(description, path, new)
    if not isinstance(description, dict | list):
      break
  assert_error_or_what_the_bytes_say(
    tmp_path_factory.getbasetemp() / 'any.fedpm',
    model_files.sealed(description, values),
    model.values,
  )


@hypothesis.settings(max_examples=300)
@hypothesis.given(data=st.data())
def test_any_edit_of_bytes(tmp_path_factory, data):
  """In the description, in the message, and with its checksum right too."""
  model = data.draw(st.sampled_from(model_files.models()))
  body = bytearray(model.data[:-4])
  start = len(body) - len(model_files.parts(model.data)[1])
  low, high = data.draw(
    st.sampled_from([(0, start), (start, start + 60), (start, len(body))])
  )
  for _ in range(data.draw(st.integers(1, 4))):
    at = data.draw(st.integers(low, high - 1))
    body[at : at + data.draw(st.integers(0, 2))] = data.draw(
      st.binary(max_size=2)
    )
  if data.draw(st.booleans()):
    message = body[start:-4]
    crc = zlib.crc32(
      message[model_files.HEAD.size :] + message[: model_files.HEAD.size]
    )
    body[-4:] = struct.pack('<I', crc)
  edited = bytes(body) + struct.pack('<I', zlib.crc32(body))
  assert_error_or_what_the_bytes_say(
    tmp_path_factory.getbasetemp() / 'edit.fedpm', edited, model.values
  )


# ------------------------------------------------------- what is no file at all


def test_what_cannot_be_read_is_one_error(tmp_path):
  (tmp_path / 'file').write_bytes(b'FPMA')
  (tmp_path / 'loop').symlink_to('loop')
  for name in ('', 'file', 'file/x', 'loop', 'n' * 300, 'with\0zero'):
    with pytest.raises(model_file.ModelFileError):
      model_file.load(tmp_path / name)
  for name in ('null', 'zero'):
    with pytest.raises(model_file.ModelFileError, match='not a fedpm_jax'):
      model_file.load(f'/dev/{name}')
  with pytest.raises(FileNotFoundError):
    model_file.load(tmp_path / 'absent')


def test_a_file_of_another_kind_is_not_read_whole(tmp_path):
  for head in (b'PK\3\4', b'FPMA\2'):
    with open(tmp_path / 'huge', 'wb') as file:
      file.write(head)
      file.truncate(2**43)  # with a hole: it takes no room on the disk
    with pytest.raises(
      model_file.ModelFileError, match='not a fedpm_jax model'
    ):
      model_file.load(tmp_path / 'huge')


# --------------------------------------------------------- modules of one's own


def own(error=None):
  """A module class that prints the same whatever it does."""

  class Own(nn.Module):
    @nn.compact
    def __call__(self, x):
      if error is not None:
        raise error
      return nn.Dense(3)(x.reshape(len(x), -1))

  return Own


@pytest.mark.parametrize(
  'error',
  [
    *(RuntimeError('two\nlines'), KeyError('x'), TypeError(), ValueError()),
    *(ZeroDivisionError(), RecursionError(), MemoryError(), AttributeError()),
    *(IndexError(), OSError(5, 'x'), AssertionError(), UserWarning('w')),
  ],
  ids=lambda error: type(error).__name__,
)
def test_a_module_that_raises_is_an_error_of_the_file(tmp_path, error):
  good = own()()
  spec = model_files.SPEC._replace(model=f'own: {networks.described(good)}')
  data = model_file.make(spec, np.ones(27, np.bool_), good).data
  path = tmp_path / 'own.fedpm'
  path.write_bytes(data)
  assert model_file.load(path, model=good).values.all()
  model_files.refused(path, data, 'not a valid model', model=own(error)())
  model_files.refused(path, data, 'a module that this package does not have')
  model_files.refused(
    path, data, "trained with 'own: Own.*got 'own: Dense", model=nn.Dense(3)
  )
  model_files.refused(path, data, "got 'own: 5'", model=5)
