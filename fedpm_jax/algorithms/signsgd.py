"""SignSGD with majority vote: a bit per parameter, both ways.

    server: w = w_0 + eta (q - 2^15), w_0 from the seed, q an integer
    round t: client k:  local steps from w;  b_k = [delta_k >= 0]
             server:    q += +1 where most of the b_k are ones, else -1

Bernstein, Wang, Azizzadenesheli, Anandkumar, "signSGD: compressed optimisation
for non-convex problems", ICML 2018; with several local steps as in its use as a
baseline of federated learning.  All that the server ever learns are votes, so
its state is how often each parameter went up rather than down, and whoever has
the last round's needs one bit per parameter, which the downlink `theta_news`
finds out by itself.

Deviations.  A tie of the vote, common where K is even, goes up in every other
position and round: if ties all went up as sign(0) does, the weights would
drift.  Paper: no local steps; clients send the sign of a gradient or of its
momentum.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedpm_jax import masks
from fedpm_jax.algorithms import base, fedavg
from fedpm_jax.models.network import Network

_ZERO = masks.SCALE // 2  # the level of w_0
_TIE = 1e-6  # of K: a margin of one example in a million is a tie


class ServerState(NamedTuple):
  """Net votes, uint16 `[d]`: w = w_0 + eta (q - 2^15)."""

  q: jax.Array


class ServerInfo(NamedTuple):
  """Reported: the share of clients that voted with the majority."""

  agreement: jax.Array


def signsgd(
  network: Network,
  optimizer: optax.GradientTransformation,
  *,
  server_learning_rate: float = 0.001,
) -> base.Algorithm:
  """SignSGD with majority vote as the functions of an `Algorithm`.

  Args:
    network: the model and where its weights start; see `fedavg.fedavg`.
    optimizer: of the weights, local.
    server_learning_rate: eta, how far every weight moves in a round, positive.

  Raises:
    ValueError: a constant outside the range above.
  """
  if not server_learning_rate > 0:
    raise ValueError(
      f'server_learning_rate must be positive, got {server_learning_rate}.'
    )

  def params_of(q):
    votes = q.astype(jnp.int32) - _ZERO
    steps = server_learning_rate * votes.astype(jnp.float32)
    return fedavg.initial_params(network) + steps

  def init(key):
    del key
    d = network.layout.num_parameters
    return ServerState(jnp.full(d, _ZERO, jnp.uint16)), ()

  def broadcast(state):
    return state.q

  def client_update(received, batches, client_state, step_keys, uplink_key):
    del uplink_key  # Whatever it is, training is the same.
    delta, sums = fedavg.local_delta(
      network, optimizer, received, batches, step_keys
    )
    return delta, client_state, sums

  def server_update(state, total, count, round_idx):
    even = (jnp.arange(total.size) + round_idx) % 2 == 0
    margin = 2 * total - count
    # Votes weighted by examples are rounded, and a tie must stay one.
    tie = jnp.abs(margin) <= _TIE * count
    up = jnp.where(tie, even, margin > 0)
    q = state.q.astype(jnp.int32) + jnp.where(up, 1, -1)
    q = jnp.clip(q, masks.Q_MIN, masks.Q_MAX).astype(jnp.uint16)
    with_majority = jnp.where(up, total, count - total)
    return ServerState(q), ServerInfo(jnp.mean(with_majority / count))

  def eval_params(state, key):
    del key
    return {'mean': params_of(state.q)}

  def model(state, key):
    del key
    return params_of(state.q)

  return base.Algorithm(
    payload='theta',
    update='delta',
    aggregated='mask',
    init=init,
    broadcast=broadcast,
    receive=lambda q: fedavg.receive(network, params_of(q)),
    client_update=client_update,
    server_update=server_update,
    depends_only_on_round=lambda round_idx: False,
    eval_params=eval_params,
    model=model,
  )
