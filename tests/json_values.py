"""JSON values with something else somewhere inside, for tests of readers."""

import copy


def placed(value, path, new):
  """A copy of a JSON value with another value at this path."""
  if not path:
    return new
  value = copy.deepcopy(value)
  inner = value
  for key in path[:-1]:
    inner = inner[key]
  inner[path[-1]] = new
  return value
