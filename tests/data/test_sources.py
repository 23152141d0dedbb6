"""Data sets: the embedded digits, prepared TFDS directories, the cache."""

import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import prepared_toy
import pytest

from fedpm_jax.data import sources

TFDS_DIR = os.environ.get('FEDPM_TFDS_DIR')


pytestmark = pytest.mark.usefixtures('home')


@pytest.mark.parametrize('chunk', [500, 22, 1])
def test_prepared_data_come_in_index_order(root, tmp_path, monkeypatch, chunk):
  monkeypatch.setattr(sources, '_DECODE_CHUNK', chunk)
  dataset = sources.load('toy', data_dir=root, cache_dir=tmp_path / 'cache')
  assert dataset.name == 'toy'
  prepared_toy.assert_toy(dataset)


@pytest.mark.parametrize(
  ('folder', 'name'),
  [
    ('emnist/balanced/3.1.0', 'emnist/balanced'),
    ('emnist47_proxy/1.0.0', 'emnist47_proxy'),
    ('emnist47_proxy/1.0.0', 'emnist47_proxy:1.0.0'),
  ],
)
def test_emnist_is_turned_upright(root, tmp_path, folder, name):
  prepared_toy.copy_of_toy(root, folder)
  for _ in range(2):  # decoded, then from the cache
    dataset = sources.load(name, data_dir=root, cache_dir=tmp_path / 'cache')
    prepared_toy.assert_toy(dataset, transposed=True)


def test_a_directory_with_a_name_outside_tfds_is_read(root):
  prepared_toy.copy_of_toy(root, 'My-Set.v/1.0.0')
  prepared_toy.assert_toy(sources.load('My-Set.v', data_dir=root))


def test_the_newest_version_is_read_unless_one_is_named(root):
  for version in ('1.0.9', '1.0.10', '1.0.10.incomplete'):
    prepared_toy.copy_of_toy(root, f'toy/{version}')
  kept = root / 'fedpm_jax_cache' / 'toy'
  sources.load('toy', data_dir=root)
  assert [path.name for path in kept.iterdir()] == ['1.0.10-format1.npz']
  sources.load('toy:1.0.9', data_dir=root)
  assert (kept / '1.0.9-format1.npz').is_file()
  with pytest.raises(sources.DataNotFound, match=r'toy:2\.0\.0'):
    sources.load('toy:2.0.0', data_dir=root)


def test_the_directory_of_the_environment_is_the_default(root, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(root))
  prepared_toy.assert_toy(sources.load('toy'))
  monkeypatch.delenv('TFDS_DATA_DIR')
  with pytest.raises(sources.DataNotFound, match='home/tensorflow_datasets'):
    sources.load('toy')


# ------------------------------------------------------------------- errors


def test_what_is_not_prepared_is_one_line_at_once(tmp_path):
  """In a fresh process: no TensorFlow, no network, no library, no wait."""
  program = f"""
import socket, sys, time
def refuse(*args, **kwargs): raise AssertionError('network')
socket.socket = refuse
from fedpm_jax.data import sources
start = time.monotonic()
try:
  sources.load('emnist/balanced', data_dir={str(tmp_path)!r})
except sources.DataNotFound as error:
  assert time.monotonic() - start < 5
  heavy = [m for m in sys.modules if m.startswith('tensorflow')]
  assert not heavy, heavy
  print(error)
"""
  result = subprocess.run(
    [sys.executable, '-W', 'error', '-c', program],
    capture_output=True,
    text=True,
    cwd=pathlib.Path(__file__).parents[2],
    timeout=60,
  )
  assert result.returncode == 0, result.stderr
  (line,) = result.stdout.splitlines()
  assert str(tmp_path) in line
  assert 'prepared there: nothing' in line
  assert 'pip install tensorflow' in line
  code = line.split("python -c '")[1].split("'")[0]
  compile(code, 'command', 'exec')
  assert 'builder("emnist/balanced", data_dir=' in code
  assert 'file_format="array_record"' in code


def test_the_line_names_what_is_prepared(root):
  prepared_toy.copy_of_toy(root, 'emnist/letters/3.1.0')
  for name in ('emnist', 'tyo'):
    with pytest.raises(
      sources.DataNotFound, match=r'prepared there: emnist/letters, toy\)'
    ):
      sources.load(name, data_dir=root)


@pytest.mark.parametrize(
  ('name', 'said'),
  [
    ('mnist', '12 MB to download, about 150 MB of disk'),
    ('cifar10:3.0.2', '170 MB to download, about 700 MB of disk'),
    ('CIFAR10', "did you mean 'cifar10'"),
    ('cifar-100', "did you mean 'cifar100'"),
    ('Toy', "did you mean 'toy'"),
  ],
)
def test_the_line_names_what_it_takes_and_what_is_meant(root, name, said):
  with pytest.raises(sources.DataNotFound) as caught:
    sources.load(name, data_dir=root)
  line = str(caught.value)
  assert said in line
  assert ('to download' in line) == ('to download' in said)
  assert ('did you mean' in line) == ('did you mean' in said)


@pytest.mark.parametrize('inner', ['toy', 'toy/1.0.0'])
def test_the_folder_of_one_data_set_is_not_that_of_all(root, inner):
  with pytest.raises(sources.DataNotFound) as caught:
    sources.load('toy', data_dir=root / inner)
  assert str(caught.value).endswith(
    f'use --config.data.dir={root}, or TFDS_DATA_DIR={root}.'
  )


def test_an_advice_of_the_library_is_kept_back(root, caplog, monkeypatch):
  from tensorflow_datasets.core.features import image_feature

  monkeypatch.setattr(image_feature, 'cv2', None)
  sources.logging._log_counter_per_token.clear()  # of what is said once
  sources.load('toy', data_dir=root)
  assert 'OpenCV' not in caplog.text
  sources.logging.warning('OpenCV is not installed')
  assert 'OpenCV' in caplog.text


def test_tfrecord_is_refused_but_not_beside_array_record(root):
  info = root / 'toy' / '1.0.0' / 'dataset_info.json'
  prepared_toy.edit(info, lambda content: content.update(fileFormat='tfrecord'))
  with pytest.raises(
    sources.DataNotFound, match=r'as tfrecord, .* needed is array_record'
  ):
    sources.load('toy', data_dir=root)
  prepared_toy.edit(
    info,
    lambda content: content.update(alternativeFileFormats=['array_record']),
  )
  prepared_toy.assert_toy(sources.load('toy', data_dir=root))


@pytest.mark.parametrize('damage', ['missing', 'cut'])
def test_damaged_records_are_named(root, damage):
  (records,) = (root / 'toy' / '1.0.0').glob('*test.array_record*')
  if damage == 'missing':
    records.unlink()
  else:
    records.write_bytes(records.read_bytes()[:700])
  with pytest.raises(sources.DataNotFound, match=r'toy/1\.0\.0 is damaged'):
    sources.load('toy', data_dir=root)
  assert not list(root.rglob('*.npz'))


def test_other_splits_are_refused(root):
  def rename(content):
    content['splits'][1]['name'] = 'validation'

  prepared_toy.edit(root / 'toy' / '1.0.0' / 'dataset_info.json', rename)
  with pytest.raises(ValueError, match=r"got \['train', 'validation'\]"):
    sources.load('toy', data_dir=root)


@pytest.mark.parametrize('feature', ['image', 'label'])
def test_other_features_are_refused(root, feature):
  def rename(content):
    features = content['featuresDict']['features']
    features[f'my_{feature}'] = features.pop(feature)

  prepared_toy.edit(root / 'toy' / '1.0.0' / 'features.json', rename)
  with pytest.raises(ValueError, match=rf'must have .*, got .*my_{feature}'):
    sources.load('toy', data_dir=root)


def test_images_of_varying_size_are_refused(root):
  def vary(content):
    image = content['featuresDict']['features']['image']['image']
    image['shape']['dimensions'] = ['-1', '-1', '3']

  prepared_toy.edit(root / 'toy' / '1.0.0' / 'features.json', vary)
  with pytest.raises(ValueError, match=r'of fixed size.*None, None, 3'):
    sources.load('toy', data_dir=root)


def test_labels_outside_the_classes_are_refused(root):
  def fewer(content):
    label = content['featuresDict']['features']['label']
    label['classLabel']['numClasses'] = '4'

  prepared_toy.edit(root / 'toy' / '1.0.0' / 'features.json', fewer)
  with pytest.raises(ValueError, match=r'labels in \[0, 4\), got \[0 .* 4\]'):
    sources.load('toy', data_dir=root)


@pytest.mark.parametrize('name', ['', '..', '../toy', '/toy', 'a/b/c', 'toy:1'])
def test_malformed_names_are_refused(root, name):
  with pytest.raises(ValueError, match=r'named .*, got') as caught:
    sources.load(name, data_dir=root)
  assert not isinstance(caught.value, sources.DataNotFound)


# -------------------------------------------------------------------- cache


def test_the_second_load_decodes_nothing(root):
  sources.load('toy', data_dir=root)
  for records in (root / 'toy').rglob('*.array_record*'):
    records.unlink()
  prepared_toy.assert_toy(sources.load('toy', data_dir=root))
  assert len(list(root.rglob('*.npz'))) == 1


@pytest.mark.parametrize('damage', ['cut', 'flipped', 'empty', 'foreign'])
def test_a_bad_cache_is_made_again(root, damage):
  sources.load('toy', data_dir=root)
  (path,) = root.rglob('*.npz')
  good = path.read_bytes()
  if damage == 'cut':
    path.write_bytes(good[: len(good) // 2])
  elif damage == 'flipped':
    at = good.index(prepared_toy.toy_arrays()['x_train'].tobytes())
    path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
  elif damage == 'empty':
    path.write_bytes(b'')
  else:
    np.savez(path, x_train=np.zeros(3))
  prepared_toy.assert_toy(sources.load('toy', data_dir=root))
  assert path.read_bytes() == good
  assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_data_prepared_anew_are_decoded_anew(root):
  sources.load('toy', data_dir=root)
  (path,) = root.rglob('*.npz')
  before = path.read_bytes()
  info = root / 'toy' / '1.0.0' / 'dataset_info.json'
  prepared_toy.edit(
    info, lambda content: content.update(description='made again')
  )
  prepared_toy.assert_toy(sources.load('toy', data_dir=root))
  assert path.read_bytes() != before


def test_the_cache_goes_home_where_the_data_are_read_only(root, home):
  # A file in the way refuses even the superuser, whom permissions do not stop.
  (root / 'fedpm_jax_cache').write_text('')
  prepared_toy.assert_toy(sources.load('toy', data_dir=root))
  kept = home / '.cache' / 'fedpm_jax' / 'toy' / '1.0.0-format1.npz'
  assert kept.is_file()
  for records in (root / 'toy').rglob('*.array_record*'):
    records.unlink()
  prepared_toy.assert_toy(sources.load('toy', data_dir=root))


def test_without_any_place_for_a_cache_the_data_still_load(root):
  blocked = root / 'a file'
  blocked.write_text('')
  for _ in range(2):
    prepared_toy.assert_toy(
      sources.load('toy', data_dir=root, cache_dir=blocked)
    )


# ---------------------------------------------------------------- real data


@pytest.mark.data
@pytest.mark.skipif(not TFDS_DIR, reason='$FEDPM_TFDS_DIR is not set')
@pytest.mark.parametrize(
  ('name', 'shape', 'sizes', 'first_labels'),
  [
    ('mnist', (28, 28, 1), (60_000, 10_000), [5, 0, 4, 1, 9, 2, 1, 3]),
    ('cifar10', (32, 32, 3), (50_000, 10_000), [6, 9, 9, 4, 1, 1, 2, 7]),
    ('cifar100', (32, 32, 3), (50_000, 10_000), [19, 29, 0, 11, 1, 86]),
    ('emnist47_proxy', (28, 28, 1), (77_805, 4_700), [9, 14, 23, 1]),
  ],
)
def test_real_data(tmp_path, name, shape, sizes, first_labels):
  # The first labels of MNIST and CIFAR are those of the official files.
  dataset = sources.load(name, data_dir=TFDS_DIR, cache_dir=tmp_path)
  assert dataset.x_train.shape == (sizes[0], *shape)
  assert dataset.x_test.shape == (sizes[1], *shape)
  assert dataset.y_train[: len(first_labels)].tolist() == first_labels
  assert len(np.unique(dataset.y_test)) == dataset.num_classes
  again = sources.load(name, data_dir=TFDS_DIR, cache_dir=tmp_path)
  for one, other in zip(dataset[1:], again[1:], strict=True):
    np.testing.assert_array_equal(one, other)
  if name == 'emnist47_proxy':
    # Upright: a one is taller than it is wide.
    ones = dataset.x_test[dataset.y_test == 1][..., 0] > 127
    _, rows, columns = np.nonzero(ones)
    assert rows.std() > 1.5 * columns.std()
  shutil.rmtree(tmp_path)  # half a gigabyte for all four
