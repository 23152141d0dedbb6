"""Masks that are well formed and harm: left out where a bound is set."""

import federations as f
import numpy as np
from local_grid import changed

from fedpm_jax.federation import envelope, settings
from fedpm_jax.federation.node import Node as Client

VICTIM, ROUND = 2, 1
BOUND = '--config.robust.max_distance=0.02'


def poisoner(grid, told, is_poisoned):
  """Replies of all ones: well formed, and sealed by a client's own half."""
  halves = Client(settings.read(told).config, 0)._halves

  def on_reply(request, reply):
    asked = envelope.read_ask(request)
    if not is_poisoned(asked) or not asked.message:
      return [reply]
    # What a client remembers is the round's theta by now.
    node = grid.nodes[f.node_id(asked.client)]
    theta = node.context.state['fedpm.state']['memory'].numpy()
    ones = np.full(-(-theta.size // 8), 255, np.uint8)
    message = halves.seal(ones, theta, client=asked.client, round_idx=ROUND)
    return [changed(reply, message=bytes(message))]

  return on_reply


def test_a_poisoned_mask_counts_for_nothing_where_a_bound_is_set(tmp_path):
  told = f.told(BOUND)
  simulated = f.simulate(tmp_path / 'simulated', told, {ROUND: [VICTIM]})
  grid = f.grid_of(told)
  victim = (VICTIM, ROUND)
  grid.on_reply = poisoner(
    grid, told, lambda asked: (asked.client, asked.round_idx) == victim
  )
  rows = f.federate(tmp_path / 'federated', grid, told)
  assert [row['robust/left_out'] for row in rows] == [0, 1, 0]
  # Its message has arrived, so it is metered; it has changed nothing.
  same = ('server/theta_mean', 'eval/accuracy_mean', 'eval/loss_sampled')
  for name in same:
    assert [row[name] for row in rows] == [row[name] for row in simulated]
  assert f.digest(tmp_path / 'federated') == f.digest(tmp_path / 'simulated')


def test_where_all_masks_are_poisoned_the_round_changes_nothing(
  tmp_path, caplog
):
  told = f.told(BOUND)
  grid = f.grid_of(told)
  grid.on_reply = poisoner(grid, told, lambda asked: asked.round_idx == ROUND)
  rows = f.federate(tmp_path, grid, told)
  assert [row['robust/left_out'] for row in rows] == [0, 4, 0]
  for name in ('eval/accuracy_mean', 'eval/loss_mean', 'eval/loss_threshold'):
    assert rows[ROUND][name] == rows[ROUND - 1][name]
  assert 'Nobody is left' in caplog.text
