"""FedMRN: clients train the update through the mask that will carry it.

    round t: client k:  u = 0; both ends draw noise n from the client's key
               step s of S, at the weights w_hat + v:
                 v = masked(u) with chance s / S for each parameter, where
                     masked(u) is n or 0 (or -n) at random, u in the mean;
                     else u itself, cut to what a mask can say
                 u <- optimiser step on grad_v, straight-through
               sends a last mask of u, 1 bit a parameter: the compressor `mrn`
             server:    adds up n or 0, as `fedavg_grid`

The growing share is the paper's progressive masking; in the last step all is
masked.  A mask is drawn anew in every step and once more for the message.

Reference: Li, Cheng, Wang, Tang, Xu, Luo, Li, Liu, He, Li, "Masked random noise
for communication-efficient federated learning", ACM MM 2024; the formulas are
those of the authors' code, which calls it FedSRN.  Deviations.  Weights come
down on a grid; theirs are float32.  Biases are masked too; their models have
none.  Weights start as in `fedavg`.  Clients count alike, not by their numbers
of batches.  Any optimiser; theirs is SGD with rate 0.1.
"""

import jax
import jax.numpy as jnp
import optax

from fedpm_jax import masks
from fedpm_jax.algorithms import base, fedavg_grid, local
from fedpm_jax.compressors import mrn
from fedpm_jax.compressors.base import Compressor
from fedpm_jax.models.network import Network
from fedpm_jax.prng import dithers


def fedmrn(
  network: Network,
  optimizer: optax.GradientTransformation,
  *,
  compressor: Compressor,
  server_learning_rate: float = 1.0,
  step: float = 0.01,
) -> base.Algorithm:
  """FedMRN as the functions of an `Algorithm`.

  Args:
    network: the model and where its weights start; see `fedavg.fedavg`.
    optimizer: of the update u, local.
    compressor: through which clients train; `mrn`, or another one that sends a
      bit a parameter.
    server_learning_rate: positive; 1 averages.
    step: of the downlink's grid, see `fedavg_grid`.

  Raises:
    ValueError: a constant outside the range above, or another compressor.
  """
  size = network.layout.num_parameters
  if (compressor.symbols, compressor.aggregated, sum(compressor.sizes)) != (
    'mask',
    'delta',
    size,
  ):
    raise ValueError(
      "wire.compressor must send one bit a parameter of a delta, as 'mrn' does,"
      f' got one that sends {compressor.symbols} and gives a'
      f' {compressor.aggregated}.'
    )
  server = fedavg_grid.fedavg_grid(
    network, optimizer, server_learning_rate=server_learning_rate, step=step
  )

  def client_update(received, batches, client_state, step_keys, uplink_key):
    payload, start = received
    # What can arrive of each parameter.
    zero, one = (
      compressor.decompress(uplink_key, jnp.full(size, bit), payload)
      for bit in (False, True)
    )

    def gradient(update, inputs, labels, valid, step):
      key, share = step
      value = masked(key, share, update, zero, one)
      loss = lambda flat: local.mean_loss(
        network.in_training(key),
        masks.unravel(network.layout, flat),
        inputs,
        labels,
        valid,
      )
      # Straight-through: by the value, taken for that by the update.
      return jax.grad(loss, has_aux=True)(start + value)

    update = jnp.zeros(size)
    update, _, sums = local.train(
      gradient,
      optimizer,
      update,
      optimizer.init(update),
      batches,
      (step_keys, shares(batches.valid)),
    )
    return update, client_state, sums

  return server._replace(
    receive=lambda payload: (payload, server.receive(payload)[0]),
    client_update=client_update,
  )


def shares(valid: jax.Array) -> jax.Array:
  """The share of parameters that is masked in each step, float32 `[S]`.

  Args:
    valid: bool `[S, B]`; steps of padding alone are not counted.
  """
  real = jnp.any(valid, axis=1)
  return jnp.cumsum(real) / jnp.maximum(jnp.sum(real), 1)


def masked(
  key: jax.Array,
  share: jax.Array,
  update: jax.Array,
  zero: jax.Array,
  one: jax.Array,
) -> jax.Array:
  """The update as one local step sees it.

  Args:
    key: of the step.
    share: of the parameters that are masked.
    update: float32 `[d]`.
    zero: what a zero of the mask stands for, float32 `[d]`.
    one: what a one stands for.

  Returns:
    float32 `[d]`: where masked `zero` or `one`, elsewhere the update, cut to
    lie between them.
  """
  drawn = dithers.bits16(key, 2 * update.size)
  mask = mrn.draw(drawn[: update.size], update, zero, one)
  cut = jnp.clip(update, jnp.minimum(zero, one), jnp.maximum(zero, one))
  is_masked = drawn[update.size :].astype(jnp.float32) + 0.5 < (
    masks.SCALE * share
  )
  return jnp.where(is_masked, jnp.where(mask, one, zero), cut)
