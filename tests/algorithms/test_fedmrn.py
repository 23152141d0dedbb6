"""FedMRN: masked noise against closed forms and plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy

from fedpm_jax import compressors, masks
from fedpm_jax.algorithms import fedmrn, local
from fedpm_jax.compressors import mrn
from fedpm_jax.prng import dithers, keys
from fedpm_jax.protocol import method as methods
from fedpm_jax.simulation import rounds

NETWORK = toy.network()
SIZE = NETWORK.layout.num_parameters
SCALE = 0.02
BOTH = pytest.mark.parametrize('signed', [False, True])


def noise_of(key, size, scale):
  """Plain NumPy: uniform on (-scale, scale) by 16 bits; and the rest of them."""
  drawn = np.asarray(dithers.bits16(key, 2 * size)).astype(np.float64)
  return (drawn[:size] - 32767.5) / 32768 * scale, drawn[size:]


def cut(update, noise, signed):
  return np.clip(update / noise, -1 if signed else 0, 1) * noise


@BOTH
def test_what_arrives_equals_plain_numpy(rng, signed):
  layout = masks.Layout(('dense/kernel',), ((300, 1),), (300,))
  made = compressors.COMPRESSORS['mrn'](layout, scale=SCALE, signed=signed)
  update = (SCALE * rng.standard_normal(300)).astype(np.float32)
  key = keys.derive(3, keys.Purpose.UPLINK, client=2)
  noise, drawn = noise_of(key, 300, SCALE)
  ratio = update / noise
  chance = np.clip((ratio + 1) / 2 if signed else ratio, 0, 1)
  mask = (drawn + 0.5) / 65536 < chance
  sent = made.compress(key, jnp.asarray(update), None)
  np.testing.assert_array_equal(sent, mask)
  arrived = made.decompress(key, sent, None)
  zero = -noise if signed else 0 * noise
  np.testing.assert_allclose(arrived, np.where(mask, noise, zero), rtol=1e-6)
  assert 0.1 < mask.mean() < 0.9


@BOTH
def test_a_step_sees_the_update_in_the_mean(rng, signed):
  """E masked(u) = u, cut to what can arrive, for any share; 4 errors."""
  key = keys.derive(0, keys.Purpose.UPLINK)
  noise, _ = noise_of(key, 64, SCALE)
  update = 0.7 * SCALE * rng.standard_normal(64)
  zero = -noise if signed else 0 * noise
  given = [jnp.asarray(x, jnp.float32) for x in (update, zero, noise)]
  each = keys.derive(0, keys.Purpose.LOCAL, client=np.arange(4000))
  expected = cut(update, noise, signed)
  for share in (0.3, 1.0):
    draw = jax.vmap(lambda key, share=share: fedmrn.masked(key, share, *given))
    seen = np.asarray(jax.jit(draw)(each), np.float64)
    error = seen.std(0) / 4000**0.5
    assert (np.abs(seen.mean(0) - expected) <= 4.5 * error + 1e-6).all()
    is_end = np.isclose(seen, zero) | np.isclose(seen, noise)
    if share == 1:
      assert is_end.all()
    else:
      inside = ~(np.isclose(expected, zero) | np.isclose(expected, noise))
      assert is_end[:, inside].mean() == pytest.approx(share, abs=0.01)


def test_the_last_step_is_all_masked_whatever_the_padding():
  valid = np.zeros((5, 2), bool)
  valid[[0, 1, 3], 0] = True
  got = np.asarray(fedmrn.shares(valid))
  np.testing.assert_allclose(got[[0, 1, 3]], [1 / 3, 2 / 3, 1], rtol=1e-6)
  assert float(fedmrn.shares(np.ones((7, 1), bool))[-1]) == 1
  assert not np.asarray(fedmrn.shares(np.zeros((2, 2), bool))).any()


def _algorithm(optimizer, *, signed):
  compressor = mrn.mrn(NETWORK.layout, scale=SCALE, signed=signed)
  return compressor, fedmrn.fedmrn(NETWORK, optimizer, compressor=compressor)


@BOTH
def test_a_client_equals_a_plain_loop(rng, signed):
  """SGD on u; the gradient is that by the weights, at w_hat + masked(u)."""
  rate = 0.05
  _, algorithm = _algorithm(optax.sgd(rate), signed=signed)
  images, labels = toy.data(np.random.default_rng(0))
  cohort = toy.cohort(rng, [0, 3], steps=4)  # client 3 has a step of padding
  state, _ = algorithm.init(keys.derive(0, keys.Purpose.SCORES))
  received = algorithm.receive(algorithm.broadcast(state))
  start = np.asarray(received[1])

  @jax.jit
  def gradient(flat, x, y):
    tree = masks.unravel(NETWORK.layout, flat)
    valid = jnp.ones(len(y), bool)
    return local.mean_loss(NETWORK.apply, tree, x, y, valid)[0]

  gradient = jax.jit(jax.grad(gradient))
  for member, client in enumerate(cohort.ids):
    step_keys = keys.derive(1, keys.Purpose.LOCAL, client=np.arange(4))
    uplink_key = keys.derive(1, keys.Purpose.UPLINK, client=int(client))
    batches = local.ClientBatches(
      jnp.asarray(images),
      jnp.asarray(labels),
      cohort.indices[member],
      cohort.valid[member],
    )
    got, _, _ = algorithm.client_update(
      received, batches, (), step_keys, uplink_key
    )
    noise, _ = noise_of(uplink_key, SIZE, SCALE)
    zero = -noise if signed else 0 * noise
    update, real = np.zeros(SIZE), cohort.valid[member].any(1)
    for step in np.flatnonzero(real):
      share = (step + 1) / real.sum()
      drawn = np.asarray(dithers.bits16(step_keys[step], 2 * SIZE), np.float64)
      ratio = update / noise
      chance = (ratio + 1) / 2 if signed else ratio
      mask = np.where((drawn[:SIZE] + 0.5) / 65536 < chance, noise, zero)
      seen = np.where(
        (drawn[SIZE:] + 0.5) / 65536 < share, mask, cut(update, noise, signed)
      )
      at = cohort.indices[member][step][cohort.valid[member][step]]
      params = (start + seen).astype(np.float32)
      update = update - rate * np.asarray(
        gradient(params, images[at], labels[at])
      )
    # A dither next to its chance may fall on either side of it.
    assert np.mean(np.abs(got - update) > 1e-4 * SCALE) < 0.02
    assert np.abs(update).max() > SCALE / 2


@BOTH
def test_clients_train_with_the_noise_that_arrives(rng, signed):
  """Where the update may not go, it does not: nothing but n and 0 arrives."""
  compressor, algorithm = _algorithm(optax.sgd(0.05), signed=signed)
  method = rounds.Method(
    NETWORK, algorithm, compressor, 'frequency', 'theta_news'
  )
  engine = toy.engine_of(method)
  state, *_ = engine.run(engine.init(), toy.cohort(rng, [0, 1, 2, 3]), 0)
  words = engine.server.uplink_keys(np.arange(4), 0)
  possible = np.zeros((1, SIZE))
  for word in words:
    noise, _ = noise_of(keys.wrap(word), SIZE, SCALE)
    ends = np.stack([-noise if signed else 0 * noise, noise])
    possible = (possible[:, None] + ends / 4).reshape(-1, SIZE)
  start, _ = algorithm.init(keys.derive(0, keys.Purpose.SCORES))
  moved = np.asarray(state.server.params) - np.asarray(start.params)
  assert (np.abs(possible - moved).min(0) < 1e-6).all()
  losses = []
  for t in range(1, 12):
    state, row, *_ = engine.run(state, toy.cohort(rng, [0, 1, 2, 3]), t)
    losses.append(row['train/loss'])
  assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize('name', ['qsgd', 'sign', 'identity'])
def test_another_compressor_is_refused(name):
  other = compressors.COMPRESSORS[name](NETWORK.layout)
  with pytest.raises(
    ValueError, match="one bit a parameter of a delta, as 'mrn'"
  ):
    fedmrn.fedmrn(NETWORK, optax.sgd(0.1), compressor=other)


@pytest.mark.parametrize('scale', [0.0, -1.0, 1e31, float('nan')])
def test_a_scale_out_of_range_is_refused(scale):
  with pytest.raises(ValueError, match=r'mrn: scale must lie in \(0, 1e\+15\]'):
    mrn.mrn(NETWORK.layout, scale=scale)


def test_the_server_must_know_the_noise():
  compressor, algorithm = _algorithm(optax.sgd(0.1), signed=False)
  with pytest.raises(ValueError, match='private_randomness'):
    methods.compose(
      NETWORK,
      algorithm,
      compressor,
      uplink='frequency',
      downlink='theta_news',
      private_randomness=True,
    )
