"""Model files as somebody would write them who means harm.

The checksum of a file stops nobody who means harm, so here it is always right.
"""

import functools
import json
import struct
import zlib

import numpy as np
import pytest

from fedpm_jax import codecs
from fedpm_jax.models import network as networks
from fedpm_jax.protocol import model_file, wire

SPEC = networks.Spec('lenet', (4, 2, 1), 3, 3, 'signed_constant', 2.0)
HEAD = struct.Struct('<3sBBBII8sIII')  # of a message


def sealed(description, message):
  """A file of this description (a value, or JSON) with a right checksum."""
  if not isinstance(description, bytes):
    description = json.dumps(description).encode()
  head = struct.pack('<4sBI', b'FPMA', 2, len(description))
  body = head + description + message
  return body + struct.pack('<I', zlib.crc32(body))


def parts(data):
  """The description and the message of a file."""
  (length,) = struct.unpack_from('<I', data, 5)
  return json.loads(data[9 : 9 + length]), data[9 + length : -4]


def forged(spec, grouping, codec, payload):
  """A file whose message has all that shows before it is decoded."""
  layout = networks.build(spec).layout
  head = HEAD.pack(
    *(b'FPM', 3, codecs.CODECS[codec].number, 1, 0, wire.EVERYONE),
    wire.layout_hash(layout.names, layout.shapes),
    *(layout.num_parameters % 2**32, len(payload), 0),
  )
  message = head + payload
  message += struct.pack('<I', zlib.crc32(payload + head))
  fields = spec._asdict()
  del fields['value_range'], fields['unscaled']
  description = {'spec': fields, 'grouping': grouping, 'codec': codec}
  return sealed(description | {'weights_sha256': '0' * 16}, message)


@functools.cache
def models():
  """One of a mask and one of weights."""
  rng = np.random.default_rng(0)
  size = networks.build(SPEC).layout.num_parameters
  mask = rng.random(size) < 0.1
  weights = rng.standard_normal(size).astype(np.float32)
  ranged = SPEC._replace(value_range=(-1.0, 2.5))
  return model_file.make(SPEC, mask), model_file.make(ranged, weights)


def refused(path, data, match='', **parts):
  """Writes the file; its error, which is one line that names it."""
  path.write_bytes(data)
  with pytest.raises(model_file.ModelFileError, match=match) as caught:
    model_file.load(path, **parts)
  message = str(caught.value)
  assert message.startswith(f'{path}: ')
  assert message.isprintable()
  assert len(message) < 1500 + len(str(path))
  return message
