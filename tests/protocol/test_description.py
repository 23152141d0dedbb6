"""The description in a model file: each wrong field is one error that names it."""

import struct
import zlib

import model_files
import pytest

NESTED = b'[' * 100_000 + b']' * 100_000


def with_spec(**changes):
  """A change of a description: other fields of its specification."""
  return lambda d: d['spec'].update(changes)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (with_spec(seed=0.5), 'spec.seed must be an integer, got 0.5'),
    (with_spec(seed=True), 'spec.seed must be an integer'),
    (with_spec(seed=-1), r'spec.seed must be in \[0, 2\^32\), got -1'),
    (with_spec(seed=2**32), 'spec.seed'),
    (with_spec(image_shape='881'), "image_shape must be a list, got '881'"),
    (
      with_spec(image_shape=[8.9, 8.1, 1.7]),
      r'image_shape\[0\] must be an int',
    ),
    (with_spec(image_shape=[float('inf'), 8, 1]), 'Infinity is no JSON'),
    (with_spec(image_shape=[8, 8, 0]), 'image_shape must be one to 8 positive'),
    (with_spec(image_shape=[-8, -8, 1]), 'image_shape must be one to 8 pos'),
    (with_spec(image_shape=[]), 'image_shape must be one to 8 positive'),
    (with_spec(image_shape=[1] * 9), 'image_shape must be one to 8 positive'),
    (with_spec(image_shape=[2**62, 2**62, 1]), 'image_shape must be one to'),
    (with_spec(num_classes=1), r'num_classes must be in \[2, '),
    (with_spec(num_classes=10**4000), r'num_classes must be in \[2, '),
    (with_spec(num_classes='x' * 10_000), 'num_classes must be an integer'),
    (with_spec(weight_gain=10**400), 'weight_gain must be a finite number'),
    (with_spec(weight_gain=float('nan')), 'NaN is no JSON'),
    (with_spec(weight_gain=0), 'weight_gain must be positive'),
    (with_spec(weight_gain=1e39), 'weight_gain must be positive and at most'),
    (with_spec(weight_gain='2'), 'weight_gain must be a finite number'),
    (with_spec(weight_kind='signs'), "weight_kind must be one of .*, got 'si"),
    (with_spec(weight_kind=[]), 'weight_kind must be text'),
    (with_spec(value_range=[2, 1]), r'value_range must be \[low, high\]'),
    (with_spec(value_range=[1, 2, 3]), r'value_range must be \[low, high\]'),
    (with_spec(value_range=[0, 1e39]), r'value_range must be \[low, high\]'),
    (with_spec(value_range=['0', '1']), 'value_range must be null or'),
    (with_spec(value_range={}), 'value_range must be null or'),
    (with_spec(unscaled='int64'), r"unscaled must be one of .*, got 'int64'"),
    (with_spec(unscaled=None), 'unscaled must be text'),
    (
      with_spec(unscaled='int32', value_range=[0, 1]),
      'unscaled must be one of .*without a value_range',
    ),
    (
      with_spec(unscaled='int32', value_range=None),
      'takes no tokens, got int32 inputs',
    ),
    (with_spec(model=['lenet']), 'spec.model must be text'),
    (with_spec(model='own: \x1b[2J\n'), r"trained with 'own: \\x1b\[2J\\n'"),
    (with_spec(model='own: ' + 'a' * 10**6), 'trained with .*aaa'),
    (with_spec(**{'\x1b[2J': 1}), r"unknown fields \['\\x1b\[2J'\]"),
    (lambda d: d.update(more=1), r"unknown fields \['more'\]"),
    (lambda d: d['spec'].pop('seed'), "no field 'seed' in spec"),
    (lambda d: d.pop('codec'), "no field 'codec'"),
    (lambda d: d.update(spec=[]), 'spec must be an object'),
    (lambda d: d.update(codec='theta_raw'), "codec must be of .* 'theta_raw'"),
    (lambda d: d.update(codec=None), 'codec must be text'),
    (lambda d: d.update(grouping='\0'), r"must be of .* got '\\x00'"),
    (lambda d: d.update(weights_sha256='x' * 16), 'must be 16 hex digits'),
    (lambda d: d.update(weights_sha256='0' * 10**6), 'must be 16 hex digits'),
  ],
)
def test_a_wrong_field_is_named(tmp_path, change, message):
  for model in model_files.models():
    description, values = model_files.parts(model.data)
    change(description)
    model_files.refused(
      tmp_path / 'x', model_files.sealed(description, values), message
    )


def test_a_message_of_another_codec_is_named(tmp_path):
  description, values = model_files.parts(model_files.models()[0].data)
  description['codec'] = 'raw'
  data = model_files.sealed(description, values)
  model_files.refused(
    tmp_path / 'x', data, "codec: got 'freq.*', expected 'raw'"
  )


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    (NESTED, 'nested too deeply'),
    (b'{"spec": {"seed": ' + NESTED + b'}}', 'nested too deeply'),
    (b'[]', 'it must be an object'),
    (b'', 'no JSON'),
    (b'{', 'no JSON'),
    (b'\xff\xfe', 'no UTF-8 text|no JSON'),
    (b'{"spec": {"seed": ' + b'1' * 5000 + b'}}', 'digits'),
    (b'[1' + b',1' * 2**20 + b']', 'cannot have 2097155 bytes'),
  ],
)
def test_a_description_that_is_none(tmp_path, text, message):
  _, values = model_files.parts(model_files.models()[0].data)
  model_files.refused(tmp_path / 'x', model_files.sealed(text, values), message)


def test_a_description_longer_than_its_file(tmp_path):
  good = model_files.models()[0].data
  body = good[:5] + struct.pack('<I', 2**19) + good[9:-4]
  data = body + struct.pack('<I', zlib.crc32(body))
  model_files.refused(tmp_path / 'x', data, 'cannot have 524288 bytes')
