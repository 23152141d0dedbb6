"""Where a cohort trains: devices, turns, and the line."""

import pytest
import toy

from fedpm_jax import compressors
from fedpm_jax.simulation import placement


@pytest.mark.parametrize(
  ('clients', 'devices', 'used'), [(10, 8, 5), (2, 2, 2), (1, 2, 1), (5, 2, 2)]
)
def test_mesh_uses_no_device_that_would_idle(
  monkeypatch, clients, devices, used
):
  found = list(range(devices))
  monkeypatch.setattr(placement.jax, 'local_devices', lambda: found)
  monkeypatch.setattr(
    placement.jax.sharding, 'Mesh', lambda found, names: (len(found), names)
  )
  assert placement.make_mesh(clients) == (used, ('clients',))


def test_a_turn_fits_into_memory(monkeypatch):
  layout = toy.network().layout
  d = layout.num_parameters
  masks = compressors.COMPRESSORS['bernoulli'](layout)
  floats = compressors.COMPRESSORS['identity'](layout)
  monkeypatch.setattr(placement, '_TURN_BYTES', 40 * d)
  assert placement.turn(floats, 1, 1) == 10
  assert placement.turn(floats, 1, 3) == 3
  assert placement.turn(masks, 1, 2) == 20 * d // -(-d // 8)
  assert placement.turn(floats, 12, 1) == 12  # at least one chunk
  assert placement.turn(masks, 1, 2, 5 * d) == 4
  monkeypatch.setattr(placement.jax, 'default_backend', lambda: 'gpu')
  assert placement.turn(floats, 3, 2) == 3


@pytest.mark.parametrize(
  ('clients', 'devices', 'chunk', 'hosts', 'line'),
  [
    (
      10,
      2,
      1,
      1,
      '10, trained on 2 devices (cpu), 5 on a device, one after another.',
    ),
    (2, 2, 1, 1, '2, trained on 2 devices (cpu).'),
    (1, 2, 1, 1, '1, trained on 1 device (cpu).'),
    (
      9,
      1,
      3,
      1,
      '9, trained on 1 device (cpu), 9 on a device, 3 side by side.',
    ),
    (
      4,
      2,
      9,
      1,
      '4, trained on 2 devices (cpu), 2 on a device, 2 side by side.',
    ),
    (8, 2, 1, 4, '8, trained on 4 hosts with 2 devices (cpu) each.'),
  ],
)
def test_the_line_says_where(clients, devices, chunk, hosts, line):
  mesh = placement.make_mesh(clients // hosts, max_devices=devices)
  said = placement.told(mesh, chunk, clients, hosts)
  assert said == f'Clients of a round: {line}'
  said = placement.told(mesh, chunk, clients, hosts, brings_examples=True)
  assert (
    said == f'Clients of a round: {line[:-1]}, with examples that they bring.'
  )
