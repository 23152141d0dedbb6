"""Where TensorFlow Datasets has prepared a data set, found without the library.

It looks only at names and at dataset_info.json.  That takes milliseconds, works
without TensorFlow, and cannot start one of the library's downloads: without a
network the library tries these again for minutes.
"""

import difflib
import json
import pathlib
import re
import shlex
from typing import Any

from fedpm_jax.system import reading

_NAME = re.compile(r'(\w[\w.-]*(?:/\w[\w.-]*)?)(?::(\d+\.\d+\.\d+))?')
_VERSION = re.compile(r'\d+\.\d+\.\d+')
# What is used of dataset_info.json, and the defaults of what it may leave out.
_INFO = {
  'fileFormat': str,
  'alternativeFileFormats': [str],
  'splits': [{'name': str}],
}
_DEFAULTS = {
  'fileFormat': 'tfrecord',
  'alternativeFileFormats': [],
  'splits': [],
}
# A PNG image is at most a thousand times longer than its file, and records that
# are alike may be compressed once more.
_MAX_RATIO = 4096
# What preparing takes: MB to download, by the library's list of files, and about
# how many MB of disk for the archive, what is taken out of it, the records and
# our cache, added up from their sizes (EMNIST's is guessed from the others').
_MEGABYTES = {
  'mnist': (12, 150),
  'emnist/balanced': (562, 1400),
  'cifar10': (170, 700),
  'cifar100': (169, 700),
}


class DataNotFound(ValueError):
  """The data cannot be read here; the message says which command helps."""


def find(name: str, root: pathlib.Path) -> pathlib.Path:
  """The version directory of a data set whose files can be read.

  Args:
    name: `name[/config][:version]`; without a version the newest is found.
    root: the TFDS directory.

  Returns:
    `root/name[/config]/version`.

  Raises:
    DataNotFound: it is not there, or not as array_record.
    FileError: its JSON files are damaged.
    ValueError: the name is malformed, or the data set lacks train or test.
  """
  match = _NAME.fullmatch(name)
  if match is None:
    raise ValueError(
      "A data set is named 'digits' or name[/config][:version] as in TFDS,"
      f' got {name!r}.'
    )
  folder, version = root / match[1], match[2]
  found = [
    path.parent
    for path in folder.glob('*/dataset_info.json')
    if _VERSION.fullmatch(path.parent.name)
    and version in (None, path.parent.name)
    and (path.parent / 'features.json').is_file()
  ]
  if not found:
    raise DataNotFound(_not_prepared(name, match[1], root))
  # As numbers: as text, 3.0.10 would come before 3.0.9.
  newest = max(found, key=lambda path: _as_numbers(path.name))
  info = _info(newest, remedy(name, root))
  formats = {info['fileFormat'], *info['alternativeFileFormats']}
  if 'array_record' not in formats:
    # As they are in Python: they may hold anything.
    listed = ', '.join(repr(each)[1:-1] for each in sorted(formats))
    raise DataNotFound(
      f'Data set {name!r} is prepared in {newest} as {listed}, which cannot be'
      ' read without TensorFlow; needed is array_record.'
      f' {remedy(name, root)}'
    )
  splits = [split['name'] for split in info['splits']]
  if not {'train', 'test'} <= set(splits):
    raise ValueError(
      f'Data set {name!r} in {newest} must have the splits train and test, got'
      f' {splits}.'
    )
  return newest


def check_size(
  name: str, root: pathlib.Path, directory: pathlib.Path, num_bytes: int
) -> None:
  """Raises DataNotFound where files cannot hold the arrays that they promise.

  Args:
    name: as given to `find`, for the message.
    root: the TFDS directory, for the message.
    directory: the version directory.
    num_bytes: of all images and labels, decoded.
  """
  on_disk = sum(path.stat().st_size for path in directory.iterdir())
  if num_bytes > _MAX_RATIO * on_disk:
    raise DataNotFound(
      f'Data set {name!r} in {directory} is damaged (its files of {on_disk:,} B'
      f' promise arrays of {num_bytes:,} B). {remedy(name, root)}'
    )


def remedy(name: str, root: pathlib.Path) -> str:
  """What to do about a data set that cannot be read."""
  return f'Move that directory away, then: {command(name, root)}'


def command(name: str, root: pathlib.Path) -> str:
  """The shell command that downloads and prepares a TFDS data set in `root`.

  `tfds build` would be shorter, but with tensorflow-datasets 4.9.10 it does not
  start without apache-beam.  importlib_resources is listed because that library
  needs it but does not require it.
  """
  arguments = f'{json.dumps(name)}, data_dir={json.dumps(str(root))}'
  code = (
    'import tensorflow_datasets as tfds;'
    f' tfds.builder({arguments}, file_format="array_record")'
    '.download_and_prepare()'
  )
  return (
    'pip install tensorflow importlib_resources && python -c'
    f' {shlex.quote(code)}'
  )


def _info(directory: pathlib.Path, remedy: str) -> dict[str, Any]:
  """The fields of `_INFO` in dataset_info.json; FileError if it is damaged."""
  # Of features.json no field is used here, but the library wants an object.
  reading.read_json(directory / 'features.json', {}, remedy=remedy)
  path = directory / 'dataset_info.json'
  info = _DEFAULTS | reading.read_json(path, {}, remedy=remedy)
  try:
    reading.check(info, _INFO)
  except ValueError as error:
    raise reading.FileError(path, str(error), remedy) from error
  return info


def _not_prepared(name: str, short: str, root: pathlib.Path) -> str:
  """What to do about a data set that is not there.

  Args:
    name: as given to `find`.
    short: without the version.
    root: the TFDS directory.
  """
  names = _names_in(root)
  missing = f'Data set {name!r} is not prepared in {root}'
  for folder in root.parents[:3]:  # root is the folder of one data set
    if not names and any((folder / short).glob('*/dataset_info.json')):
      return (
        f'{missing}, which lies inside of a TFDS directory: use'
        f' --config.data.dir={folder}, or TFDS_DATA_DIR={folder}.'
      )
  near = difflib.get_close_matches(
    short.lower(), dict.fromkeys([*names, *_MEGABYTES]), 1, 0.8
  )
  if near and near[0] != short:
    missing += f': did you mean {near[0]!r}?'
  listed = ', '.join(names) or 'nothing'
  download, disk = _MEGABYTES.get(short, (0, 0))
  size = (
    f' ({download} MB to download, about {disk} MB of disk)' if download else ''
  )
  return (
    f'{missing} (prepared there: {listed}). Prepare it once, with a'
    f' network{size}: {command(name, root)}  (TensorFlow comes on top;'
    " the embedded 'digits' need nothing)."
  )


def _names_in(root: pathlib.Path) -> list[str]:
  """The names of the prepared data sets."""
  names = set()
  for pattern in ('*/*/dataset_info.json', '*/*/*/dataset_info.json'):
    for path in root.glob(pattern):
      if _VERSION.fullmatch(path.parent.name):
        names.add(path.parent.parent.relative_to(root).as_posix())
  return sorted(names)


def _as_numbers(version: str) -> list[int]:
  return [int(part) for part in version.split('.')]
