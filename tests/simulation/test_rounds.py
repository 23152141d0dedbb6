"""The engine against a plain loop in NumPy, and the laws of a round."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from oracle import plain_fedpm

from fedpm_jax import codecs, masks
from fedpm_jax.algorithms import local
from fedpm_jax.codecs import dither
from fedpm_jax.prng import dithers, keys
from fedpm_jax.protocol import client, foresight, wire
from fedpm_jax.simulation import link, meter, placement, rounds
from fedpm_jax.system import machine


def _batches(cohort, images, labels):
  """A cohort as the oracle's (client, list of (x, y) or None)."""
  x = images.reshape(len(images), -1) * (2 / 255) - 1
  return [
    (
      int(k),
      [
        (x[i[m]], labels[i[m]]) if m.any() else None
        for i, m in zip(indices, mask, strict=True)
      ],
    )
    for k, indices, mask in zip(*cohort, strict=True)
  ]


@pytest.mark.parametrize(
  ('lambda_0', 'every', 'ids', 'bit_price'),
  [
    (1.0, 1, [[0, 1, 2, 3]] * 3, 0.0),
    (2.0, 2, [[0, 1, 3], [1, 2, 3], [0, 2, 3]], 0.0),
    (1.0, 1, [[0, 1, 2, 3]] * 3, 0.3),
  ],
)
def test_three_rounds_equal_the_plain_loop(
  rng, lambda_0, every, ids, bit_price
):
  engine = toy.engine(
    clients_per_round=len(ids[0]),
    lambda_0=lambda_0,
    bit_price=bit_price,
    prior_reset_every=every,
    theta_clip=0.02,
  )
  images, labels = toy.data(np.random.default_rng(0))
  cohorts = [toy.cohort(rng, members) for members in ids]
  state = engine.init()
  theta = np.asarray(state.server.q) / 65536
  network = engine.method.network
  expected = plain_fedpm.fedpm(
    np.asarray(network.weights(), np.float64),
    toy.SHAPES,
    theta,
    [_batches(cohort, images, labels) for cohort in cohorts],
    seed=0,
    lambda_0=lambda_0,
    clip=0.02,
    bit_price=bit_price,
    resets=range(0, 3, every),
    **toy.ADAM,
  )
  for t, cohort in enumerate(cohorts):
    state, *_ = engine.run(state, cohort, t)
    np.testing.assert_array_equal(
      np.asarray(state.server.q) / 65536, expected[t]
    )
  assert np.abs(expected[-1] - theta).max() > 0.3  # It did train.


@pytest.mark.parametrize('chunk', [2, 4])
def test_vectorised_clients_equal_one_after_another(chunk):
  rng = np.random.default_rng
  cohort = toy.cohort(rng(1), [0, 1, 2, 3])
  results = []
  for size in (1, chunk):
    engine = toy.engine(chunk=size)
    results.append(engine.run(engine.init(), cohort, 0)[:2])
  (one, one_row), (other, other_row) = results
  np.testing.assert_array_equal(one.server.q, other.server.q)
  assert one_row['uplink/bytes'] == other_row['uplink/bytes']
  assert one_row['train/loss'] == pytest.approx(other_row['train/loss'])


def test_one_clients_data_cannot_change_anothers_mask():
  rng = np.random.default_rng
  engine = toy.engine(chunk=2)
  cohort = toy.cohort(rng(1), [0, 1, 2, 3])
  changed = cohort._replace(indices=cohort.indices.copy())
  changed.indices[2] = (changed.indices[2] + 17) % 60
  state = engine.init()

  def sent(cohort):
    members = engine.trainer.work(cohort, 0)
    (turn,) = engine.trainer.turns(state.server.q, members, (), cohort.ids)
    return np.asarray(turn.symbols)

  same = (sent(cohort) == sent(changed)).all(axis=1)
  assert same.tolist() == [True, True, False, True]


def test_idle_clients_that_fill_up_the_mesh_change_nothing():
  rng = np.random.default_rng
  cohort = toy.cohort(rng(1), [0, 1, 3])
  rows = []
  for devices in (1, 2):  # 3 clients fit on one device, not on two.
    engine = toy.engine(clients_per_round=3)
    engine = rounds.Engine(
      engine.method,
      seed=0,
      num_clients=4,
      inputs=engine.data[0],
      labels=engine.data[1],
      mesh=placement.make_mesh(3, max_devices=devices),
    )
    state, row, *_ = engine.run(engine.init(), cohort, 0)
    rows.append((np.asarray(state.server.q), row))
  np.testing.assert_array_equal(rows[0][0], rows[1][0])
  for name, value in rows[0][1].items():
    if not name.startswith('time/'):
      assert value == rows[1][1][name], name


def test_codecs_carry_the_same_masks_and_thetas(rng):
  """Accuracy cannot depend on a codec: theta is equal to the last bit."""
  cohorts = [toy.cohort(rng, [0, 1, 2, 3]) for _ in range(3)]
  thetas, sizes = [], {}
  for uplink, downlink in (
    ('bitpack', 'theta_raw'),
    ('frequency', 'theta_levels'),
    ('per_tensor', 'theta_levels'),
    ('prior', 'theta_news'),
    ('dither', 'theta_news'),
  ):
    engine = toy.engine(uplink=uplink, downlink=downlink)
    state = engine.init()
    for t, cohort in enumerate(cohorts):
      state, row, *_ = engine.run(state, cohort, t)
    thetas.append(np.asarray(state.server.q))
    sizes[uplink] = (row['uplink/bytes'], row['downlink/bytes'])
  assert all((theta == thetas[0]).all() for theta in thetas)
  assert sizes['dither'][0] < sizes['prior'][0] < sizes['frequency'][0]
  downlink = [sizes[name][1] for name in ('dither', 'prior', 'frequency')]
  assert sorted(downlink) == downlink


@pytest.mark.parametrize('damage', ['values', 'error'])
def test_a_broadcast_that_clients_cannot_decode_ends_the_round(
  rng, monkeypatch, damage
):
  """They train with it while it is coded: none must go on with another."""
  engine = toy.engine()
  opened = client.Client.open

  def damaged(self, *args, **options):
    received, memory = opened(self, *args, **options)
    if damage == 'error':
      raise codecs.WireError('not a message')
    received = received.copy()
    received[-1] ^= 1
    return received, memory

  monkeypatch.setattr(client.Client, 'open', damaged)
  match = 'not a message' if damage == 'error' else 'other values'
  with pytest.raises(codecs.WireError, match=match):
    engine.run(engine.init(), toy.cohort(rng, [0, 1, 2, 3]), 0)


def test_who_missed_a_round_gets_the_whole_theta(rng):
  engine = toy.engine(clients_per_round=2)
  state, sent = engine.init(), []
  cohorts = [0, 1], [0, 1], [1, 2], [0, 3], [0, 3]
  for t, ids in enumerate(cohorts):
    assert np.flatnonzero(state.held.members).tolist() == (
      [0, 1, 2, 3] if t == 0 else cohorts[t - 1]
    )
    state, row, *_ = engine.run(state, toy.cohort(rng, ids), t)
    sent.append(row['downlink/bytes'] / 2)
  # The first round's theta follows from the seed: a header and one byte.
  assert sent[0] == wire.OVERHEAD_BYTES + 1
  both, half, none = sent[1], sent[2], sent[3]
  assert both < half < none
  assert sent[4] < none


def test_a_prior_that_is_kept_cannot_be_foreseen_but_is_exact(rng):
  engine = toy.engine(prior_reset_every=2)
  assert [
    engine.method.algorithm.depends_only_on_round(t) for t in range(3)
  ] == [
    True,
    False,
    True,
  ]
  state = engine.init()
  for t in range(4):  # the wire raises where a theta does not arrive
    state, *_ = engine.run(state, toy.cohort(rng, [0, 1, 2, 3]), t)


def test_no_recompilation_after_the_first_round(rng):
  engine = toy.engine(theta_clip=0.03)  # no other test's
  state = engine.init()
  for t in range(3):
    state, *_ = engine.run(state, toy.cohort(rng, [0, 1, 2, 3]), t)
  assert engine.trainer.receive._cache_size() == 1
  assert engine.trainer.clients_step._cache_size() == 1
  assert [f._cache_size() for f in engine.aggregation] == [1, 1, 1]


def test_persistent_optimizer_state_follows_its_client(rng):
  engine = toy.engine(clients_per_round=2, persistent_optimizer=True)
  state = engine.init()
  fresh = jax.tree.leaves(engine.init().clients)
  state, *_ = engine.run(state, toy.cohort(rng, [1, 2]), 0)
  for before, after in zip(fresh, jax.tree.leaves(state.clients), strict=True):
    moved = [(a != b).any() for a, b in zip(before, after, strict=True)]
    assert moved == [False, True, True, False]
  count = next(x for x in jax.tree.leaves(state.clients) if x.ndim == 1)
  assert count.tolist() == [0, 5, 5, 0]


def test_persistent_and_fresh_differ_in_the_second_round_only():
  q = {}
  for persistent in (False, True):
    rng = np.random.default_rng(0)
    engine = toy.engine(persistent_optimizer=persistent)
    state = engine.init()
    for t in range(2):
      state, *_ = engine.run(state, toy.cohort(rng, [0, 1, 2, 3]), t)
      q[persistent, t] = np.asarray(state.server.q)
  np.testing.assert_array_equal(q[False, 0], q[True, 0])
  assert (q[False, 1] != q[True, 1]).any()


def test_a_loss_that_is_not_finite_names_the_round_and_the_client(rng):
  engine = toy.engine()
  network = engine.method.network
  broken = network._replace(weights=lambda: network.weights() * np.inf)
  engine = rounds.Engine(
    toy.method(broken),
    seed=0,
    num_clients=4,
    inputs=engine.data[0],
    labels=engine.data[1],
    mesh=engine.mesh,
  )
  with pytest.raises(FloatingPointError, match=r'Round 8.*clients \[0, 1, 2'):
    engine.run(engine.init(), toy.cohort(rng, [0, 1, 2, 3]), 7)


def test_the_mean_mask_is_as_close_as_the_paper_says(rng):
  """E |theta_hat - theta_bar|^2 = sum theta (1 - theta) / K^2 <= d / (4 K)."""
  clients, d, draws = 8, 500, 400
  theta = masks.quantise(rng.uniform(0, 1, (clients, d)).astype(np.float32))
  sample = jax.vmap(masks.sample)

  def error(draw):
    each = np.arange(clients)
    key = keys.derive(0, keys.Purpose.UPLINK, round_idx=draw, client=each)
    sent = sample(key, theta)
    gap = np.mean(sent, axis=0) - np.mean(theta / 65536.0, axis=0)
    return np.sum(gap**2)

  errors = np.array([error(draw) for draw in range(draws)])
  p = np.asarray(theta) / 65536
  exact = (p * (1 - p)).sum() / clients**2
  assert abs(errors.mean() - exact) < 4 * errors.std() / draws**0.5
  assert exact < d / (4 * clients)


@pytest.mark.parametrize('density', [0.0, 0.25, 0.5, 1.0])
def test_estimate_is_the_papers_formula(density):
  entropy = sum(-p * np.log2(p) for p in (density, 1 - density) if p)
  expected = entropy + np.log2(1000) / 1000
  assert meter.estimated_bpp(density, 1000) == pytest.approx(expected)


def test_messages_are_coded_in_order_and_not_far_ahead():
  """What waits for its turn takes memory: see `link.ahead`."""
  asked = []

  def arguments():
    for i in range(50):
      asked.append(i)
      yield i, -i

  pair = lambda a, b: (a, b)
  with link.threads() as pool:
    for i, result in enumerate(link.ahead(pool, pair, arguments())):
      assert result == (i, -i)
      assert len(asked) <= i + 2 + machine.cores()
  assert len(asked) == 50


@pytest.mark.parametrize('size', [1, 7, 64, 1001])
def test_the_devices_guess_is_the_codecs(rng, size):
  q = rng.integers(1, 65536, size).astype(np.uint16)
  q[0] = 65535
  key = keys.derive(3, keys.Purpose.UPLINK)
  expected = dither.guess(q, np.asarray(dithers.bits16(key, size)))
  mask, distance = jax.jit(foresight.device_guess)(key, jnp.asarray(q))
  np.testing.assert_array_equal(mask, expected.mask)
  np.testing.assert_array_equal(distance, expected.distance)
  assert distance.dtype == expected.distance.dtype


def test_only_masks_with_dithers_are_kept(rng):
  cohort = toy.cohort(rng, [0, 1, 2, 3])
  engine = toy.engine()
  assert engine.run(engine.init(), cohort, 0).kept is None
  assert engine.run(engine.init(), cohort, 0, keep=True).kept is not None
  dense = toy.engine_of(
    toy.named_method(toy.network(), toy.methods_table()['fedavg'])
  )
  assert dense.run(dense.init(), cohort, 0, keep=True).kept is None


def test_a_turns_arrays_go_before_the_servers_update(rng, monkeypatch):
  """At CONV-10's size they are hundreds of megabytes."""
  engine = toy.engine()
  turns, finish, alive = engine.trainer.turns, engine.finish, []

  def watched(*args, **options):
    for turn in turns(*args, **options):
      alive.append(weakref.ref(turn.symbols))
      yield turn
      del turn

  def counted(*args):
    gc.collect()
    alive.append(sum(ref() is not None for ref in alive))
    return finish(*args)

  monkeypatch.setattr(engine.trainer, 'turns', watched)
  monkeypatch.setattr(engine, 'finish', counted)
  engine.run(engine.init(), toy.cohort(rng, [0, 1, 2, 3]), 0)
  assert alive[-1] == 0


def test_local_training_skips_empty_steps(rng):
  engine = toy.engine()
  cohort = toy.cohort(rng, [3])  # its last step is empty
  assert not cohort.valid[0, -1].any()
  shorter = cohort._replace(
    indices=cohort.indices[:, :-1], valid=cohort.valid[:, :-1]
  )
  algorithm = engine.method.algorithm
  update = jax.jit(algorithm.client_update)
  received = algorithm.receive(engine.init().server.q)
  results = []
  for members in (cohort, shorter):
    batches = local.ClientBatches(
      *engine.data, members.indices[0], members.valid[0]
    )
    step_keys = keys.wrap(engine.trainer.work(members, 0).step_keys[0])
    results.append(update(received, batches, (), step_keys, step_keys[0]))
  jax.tree.map(np.testing.assert_array_equal, *results)
