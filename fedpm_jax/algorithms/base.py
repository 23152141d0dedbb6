"""The contract of an algorithm: pure functions and explicit state.

Dimensions: M clients in the population, K in the round's cohort, d parameters.
"""

from collections.abc import Callable
from typing import Any, NamedTuple


class Algorithm(NamedTuple):
  """What clients train and what the server believes.

  State is carried from round to round and checkpointed; info is only reported.
  A row of `ALGORITHMS` is called as (network, optimizer, **options).  A row that
  has an argument `participation` is given K / M too, and one that has an
  argument `compressor` the method's compressor, to train through it.

  Attributes:
    payload: the sort of what is broadcast, a key of `codecs.base.DTYPES`:
      'theta' (uint16 levels, of whatever they stand for) or 'float32'.
    update: the sort of a client's update; its compressor must accept the same.
    aggregated: the sort that the server adds up, 'mask' or 'delta'; its
      compressor must deliver the same.
    init: (key) -> (server_state, client_state): the server's, and that of ONE
      client that has never taken part (an empty tuple where nothing is kept).
    broadcast: (server_state) -> payload `[d]`, what all clients of the round
      are sent.
    receive: (payload) -> received: what every client makes of the payload, such
      as the frozen weights; done once a round on every device, however many
      clients it trains.
    client_update: (received, local.ClientBatches, client_state, step_keys
      `[S]`, uplink_key) -> (update `[d]`, client_state, `fp.Sums`): ONE client,
      vectorised outside; a key for each local step, and the key that its
      compressor will have.  The update is what the compressor turns into
      symbols.
    server_update: (server_state, total `[d]`, K, round_idx) -> (server_state,
      info); total is the sum of the K updates as decompressed from what arrived
      (masks: int32 counts; float32 where clients count by their examples, in
      [0, K], and where the compressor flips bits, which may lie outside of it),
      info a NamedTuple of scalars, which are reported as `server/<name>` and have a unit in
      `reports.records`.
    depends_only_on_round: (round_idx) -> bool: the state after this round
      depends on the round's payload and updates alone, and on no state before
      it.  A client that knows both can then foresee the next payload.
    eval_params: (server_state, key) -> {kind: flat params `[d]`}, the networks
      that the server's belief stands for: `sampled`, `mean`, `threshold`; of a
      dense method the `mean` alone, the one network that it has.
    model: (server_state, key) -> what is exported in the end `[d]`: a mask,
      bool, of the network's weights, or the parameters themselves, float32.
  """

  payload: str
  update: str
  aggregated: str
  init: Callable[..., tuple[Any, Any]]
  broadcast: Callable[..., Any]
  receive: Callable[..., Any]
  client_update: Callable[..., tuple[Any, Any, Any]]
  server_update: Callable[..., tuple[Any, Any]]
  depends_only_on_round: Callable[[int], bool]
  eval_params: Callable[..., dict[str, Any]]
  model: Callable[..., Any]
