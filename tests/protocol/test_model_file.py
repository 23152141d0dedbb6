"""The exported model: small, complete, the same in another process."""

import json
import os
import struct
import subprocess
import sys
import zlib

import jax.numpy as jnp
import numpy as np
import pytest

from fedpm_jax import masks
from fedpm_jax.models import network as networks
from fedpm_jax.prng import keys
from fedpm_jax.protocol import model_file

SPEC = networks.Spec('conv2', (8, 8, 1), 10, 3, 'signed_constant', 2.0)
SIZE = networks.build(SPEC).layout.num_parameters


def saved(path, values):
  model = model_file.make(SPEC, values)
  model.save(path)
  return model


@pytest.fixture
def exported(tmp_path, rng):
  mask = rng.random(SIZE) < 0.1
  return saved(tmp_path / 'model.fedpm', mask), tmp_path, mask


def test_loaded_model_is_the_masked_network(exported, rng):
  model, _, mask = exported
  images = rng.integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
  network = networks.build(SPEC)
  params = masks.unravel(network.layout, network.weights() * jnp.asarray(mask))
  np.testing.assert_allclose(
    model(images), network.apply(params, images), rtol=1e-5, atol=1e-5
  )
  np.testing.assert_array_equal(model.mask, mask)
  assert model.spec == SPEC


@pytest.mark.parametrize('x64', ['0', '1'])
def test_identical_logits_in_a_fresh_process(exported, rng, x64):
  """With any number of devices, and where others compute in float64."""
  model, folder, _ = exported
  images = rng.integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
  np.save(folder / 'images.npy', images)
  np.save(folder / 'here.npy', model(images))
  code = """
import sys, numpy as np
import jax
jax.config.update('jax_num_cpu_devices', 2)
from fedpm_jax.protocol import model_file
model = model_file.load(sys.argv[1] + '/model.fedpm')
logits = model(np.load(sys.argv[1] + '/images.npy'))
assert logits.dtype == np.float32
assert (np.asarray(logits) == np.load(sys.argv[1] + '/here.npy')).all()
"""
  subprocess.run(
    [sys.executable, '-c', code, str(folder)],
    check=True,
    env=os.environ | {'JAX_ENABLE_X64': x64},
  )


@pytest.mark.parametrize('density', [0.0, 0.01, 0.1, 0.5, 1.0])
def test_size_is_the_entropy_of_the_mask(tmp_path, rng, density):
  mask = rng.random(SIZE) < density
  model = saved(tmp_path / 'model.fedpm', mask)
  p = np.array([mask.mean(), 1 - mask.mean()])
  entropy = -(p[p > 0] * np.log2(p[p > 0])).sum()
  assert model.num_bytes == (tmp_path / 'model.fedpm').stat().st_size
  assert model.bpp == 8 * model.num_bytes / SIZE
  overhead = 8 * 400 / SIZE  # the description, headers, checksums
  assert model.bpp < 1.01 * entropy + overhead
  assert model.ratio == pytest.approx(32 / model.bpp)


def test_dense_weights_are_a_model_too(tmp_path, rng):
  values = (0.05 * rng.standard_normal(SIZE)).astype(np.float32)
  path = tmp_path / 'dense.fedpm'
  written = saved(path, values)
  model = model_file.load(path)
  np.testing.assert_array_equal(model.values, values)
  assert model.mask is None
  assert b'"grouping":"tensor"' in path.read_bytes()
  assert 32 < written.bpp == model.bpp < 32.1
  images = rng.integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
  network = networks.build(SPEC)
  params = masks.unravel(network.layout, jnp.asarray(values))
  np.testing.assert_allclose(
    model(images), network.apply(params, images), rtol=1e-4, atol=1e-4
  )
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)
  with pytest.raises(model_file.ModelFileError, match='damaged'):
    model_file.load(path)


def test_undecided_thetas_cost_less_than_a_bit(tmp_path, rng):
  """The rate is E_u H2(share of thetas above u), here with three thetas."""
  q = rng.choice([655, 32768, 64880], SIZE, p=[0.25, 0.5, 0.25])
  key = keys.derive(SPEC.seed, keys.Purpose.FINAL)
  mask = np.asarray(masks.sample(key, jnp.asarray(q, jnp.uint16)))
  for value in (655, 32768, 64880):
    expected = value / 65536
    error = 4 * (expected * (1 - expected) / (q == value).sum()) ** 0.5
    assert abs(mask[q == value].mean() - expected) < error
  model = saved(tmp_path / 'model.fedpm', mask)
  np.testing.assert_array_equal(model.mask, mask)
  # Below one half 3/4 of the thetas lie above u, and 1/4 do beyond it.
  expected = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))
  assert expected == pytest.approx(0.811, abs=1e-3)
  assert model.bpp < 1.01 * expected + 8 * 400 / SIZE


def test_every_damaged_byte_is_found(exported):
  _, folder, _ = exported
  path = folder / 'model.fedpm'
  good = path.read_bytes()
  places = [*range(300), *range(300, len(good), 97), len(good) - 1]
  for place in places:
    bad = bytearray(good)
    bad[place] ^= 0x10
    path.write_bytes(bad)
    with pytest.raises(model_file.ModelFileError):
      model_file.load(path)
  for length in (0, 3, 8, 50, len(good) - 1):
    path.write_bytes(good[:length])
    with pytest.raises(model_file.ModelFileError):
      model_file.load(path)


def _with_description(good, change):
  """The file with another description and a correct checksum."""
  (length,) = struct.unpack_from('<I', good, 5)
  description = json.loads(good[9 : 9 + length])
  change(description)
  text = json.dumps(description).encode()
  body = good[:5] + struct.pack('<I', len(text)) + text + good[9 + length : -4]
  return body + struct.pack('<I', zlib.crc32(body))


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda d: d['spec'].update(seed=4), 'regenerates other weights'),
    (lambda d: d['spec'].update(num_classes=11), 'not a valid model'),
    (lambda d: d['spec'].update(num_classes=10**9), 'not a valid model'),
    (lambda d: d['spec'].update(num_classes='x'), 'not a valid model'),
    (lambda d: d['spec'].update(image_shape=[8, 8]), 'not a valid model'),
    (lambda d: d['spec'].update(image_shape=[10**9] * 3), 'not a valid'),
    (
      lambda d: d['spec'].update(model='vgg'),
      'a module that this package does not have',
    ),
    (lambda d: d['spec'].update(extra=1), 'not a valid model'),
    (lambda d: d['spec'].update(value_range=[1, 1]), 'value_range must be'),
    (lambda d: d['spec'].update(value_range=[0, 'x']), 'not a valid model'),
    (lambda d: d['spec'].pop('seed'), 'not a valid model'),
    (lambda d: d.update(codec='prior'), 'grouping and codec must be'),
    (lambda d: d.update(grouping='x'), 'grouping and codec must be'),
    (lambda d: d.clear(), 'not a valid model'),
  ],
)
def test_hostile_descriptions(exported, change, message):
  _, folder, _ = exported
  path = folder / 'model.fedpm'
  path.write_bytes(_with_description(path.read_bytes(), change))
  with pytest.raises(model_file.ModelFileError, match=message):
    model_file.load(path)


def test_other_files_are_refused(tmp_path):
  path = tmp_path / 'x'
  path.write_bytes(b'\x80\x04 a pickle, say, and some more bytes')
  with pytest.raises(model_file.ModelFileError, match='not a fedpm_jax model'):
    model_file.load(path)
  with pytest.raises(FileNotFoundError):
    model_file.load(tmp_path / 'absent')


def test_wrong_images_and_masks(exported):
  model, _, mask = exported
  with pytest.raises(ValueError, match=r'\[B, 8, 8, 1\], got uint8 \[5, 8, 8'):
    model(np.zeros((5, 8, 8), np.uint8))
  with pytest.raises(ValueError, match='got float32'):
    model(np.zeros((5, 8, 8, 1), np.float32))
  with pytest.raises(ValueError, match='Expected a bool mask'):
    model_file.make(SPEC, mask[1:])
