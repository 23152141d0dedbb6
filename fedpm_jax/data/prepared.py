"""Where TensorFlow Datasets has prepared a data set, found without the library.

It looks only at names and at dataset_info.json.  That takes milliseconds, works
without TensorFlow, and cannot start one of the library's downloads: without a
network the library tries these again for minutes.
"""

import json
import pathlib
import re
import shlex

_NAME = re.compile(r'(\w[\w.-]*(?:/\w[\w.-]*)?)(?::(\d+\.\d+\.\d+))?')
_VERSION = re.compile(r'\d+\.\d+\.\d+')


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
    raise DataNotFound(
      f'Data set {name!r} is not prepared in {root} (prepared there:'
      f' {_names_in(root)}). Prepare it once, with a network:'
      f" {command(name, root)}  (or use the embedded 'digits')."
    )
  # As numbers: as text, 3.0.10 would come before 3.0.9.
  newest = max(found, key=lambda path: _as_numbers(path.name))
  info = json.loads((newest / 'dataset_info.json').read_text())
  formats = {info.get('fileFormat', 'tfrecord')}
  formats.update(info.get('alternativeFileFormats', []))
  if 'array_record' not in formats:
    raise DataNotFound(
      f'Data set {name!r} is prepared in {newest} as'
      f' {", ".join(sorted(formats))}, which cannot be read without'
      ' TensorFlow; needed is array_record. Move that directory away, then:'
      f' {command(name, root)}'
    )
  splits = [split['name'] for split in info.get('splits', [])]
  if not {'train', 'test'} <= set(splits):
    raise ValueError(
      f'Data set {name!r} must have the splits train and test, got {splits}.'
    )
  return newest


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


def _names_in(root: pathlib.Path) -> str:
  """The names of the prepared data sets, for a message."""
  names = set()
  for pattern in ('*/*/dataset_info.json', '*/*/*/dataset_info.json'):
    for path in root.glob(pattern):
      if _VERSION.fullmatch(path.parent.name):
        names.add(path.parent.parent.relative_to(root).as_posix())
  return ', '.join(sorted(names)) or 'nothing'


def _as_numbers(version: str) -> list[int]:
  return [int(part) for part in version.split('.')]
