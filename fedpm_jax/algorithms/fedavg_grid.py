"""FedAvg whose weights come down on a grid: integers, of which few are new.

    server: w = w_0 from the seed, q = 2^15
    round t: all:       w_hat = w_0 + step (q - 2^15), which is what clients hold
             client k:  local steps from w_hat;  delta_k = w_k - w_hat
             server:    w += server_learning_rate * mean_k decoded(delta_k)
                        where |w - w_hat| > step:
                          q = round((w - w_0) / step) + 2^15

Clients hold an integer for each weight and need only what is new in it, which
the downlink `theta_news` codes.  The server keeps w, not what it sent: what is
held back in one round stays in w and comes down in a later one, which is error
feedback.  So |w - w_hat| <= step after every round, as long as no weight moves
further than 2^15 steps.  What is evaluated and exported is what clients hold,
w_hat.

A weight comes down when it is off by more than a whole step, not by half of
one: else a weight between two levels would go up and down with the noise of
every round, and each time it is news.  The grid starts at w_0: a weight that
did not move costs nothing, and before the first round all follows from the
seed.

The step is to be about as large as what a client changes in a weight in a
round.  With 30 rounds of Adam with rate .001, on digits (a small CNN) and MNIST
(LeNet), accuracy was that of 32 bits down with .003 to .01; with .02 it rose
later.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedpm_jax import masks
from fedpm_jax.algorithms import base, fedavg
from fedpm_jax.models.network import Network

_ZERO = masks.SCALE // 2  # the level of w_0


class ServerState(NamedTuple):
  """What the server believes, and what clients hold.

  Attributes:
    params: w, float32 `[d]`.
    q: uint16 `[d]`, w_hat = w_0 + step (q - 2^15).
  """

  params: jax.Array
  q: jax.Array


def fedavg_grid(
  network: Network,
  optimizer: optax.GradientTransformation,
  *,
  server_learning_rate: float = 1.0,
  step: float = 0.01,
) -> base.Algorithm:
  """FedAvg on a grid as the functions of an `Algorithm`.

  Args:
    network: the model and where its weights start; see `fedavg.fedavg`.
    optimizer: of the weights, local.
    server_learning_rate: positive; 1 averages.
    step: of the grid, positive.

  Raises:
    ValueError: a constant outside the range above.
  """
  plain = fedavg.fedavg(
    network, optimizer, server_learning_rate=server_learning_rate
  )
  if not step > 0:
    raise ValueError(f'step must be positive, got {step}.')

  def params_of(q):
    steps = q.astype(jnp.int32) - _ZERO
    return fedavg.initial_params(network) + step * steps.astype(jnp.float32)

  def init(key):
    del key
    q = jnp.full(network.layout.num_parameters, _ZERO, jnp.uint16)
    return ServerState(fedavg.initial_params(network), q), ()

  def server_update(state, total, count, round_idx):
    moved, info = plain.server_update(
      fedavg.ServerState(state.params), total, count, round_idx
    )
    steps = (moved.params - fedavg.initial_params(network)) / step
    held = state.q.astype(jnp.float32) - _ZERO
    new = jnp.where(jnp.abs(steps - held) > 1, jnp.round(steps), held)
    q = jnp.clip(new + _ZERO, masks.Q_MIN, masks.Q_MAX).astype(jnp.uint16)
    return ServerState(moved.params, q), info

  def eval_params(state, key):
    del key
    return {'mean': params_of(state.q)}

  def model(state, key):
    del key
    return params_of(state.q)

  return plain._replace(
    payload='theta',
    init=init,
    broadcast=lambda state: state.q,
    receive=lambda q: fedavg.receive(network, params_of(q)),
    server_update=server_update,
    eval_params=eval_params,
    model=model,
  )
