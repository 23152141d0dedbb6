"""The client as Flower starts it: one message in, one answer out.

    flower-supernode --insecure --superlink HOST:PORT \\
        --node-config 'partition-id=0'

takes client 0's part of the data set that the run's configuration names.  With

    --node-config 'partition-id=0 data="my_images.npz" num-classes=10'

the node trains on its own file (see `node.own_data`), which stays there.
"""

import functools
import json
from typing import Any

import jax
import numpy as np
from flwr.app import (
  Array,
  ArrayRecord,
  ConfigRecord,
  Context,
  Message,
  RecordDict,
)
from flwr.clientapp import ClientApp

from fedpm_jax.federation import envelope, settings
from fedpm_jax.federation.node import Kept, Node, own_data
from fedpm_jax.protocol.client import Memory
from fedpm_jax.system import machine

_KEPT, _STATE = 'fedpm.memory', 'fedpm.state'

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
  """The answer to a round."""
  return _answer(message, context)


@app.query()
def join(message: Message, context: Context) -> Message:
  """Who this is, and whether it agrees."""
  return _answer(message, context)


def _answer(message: Message, context: Context) -> Message:
  node = _node(
    json.dumps(dict(context.run_config), sort_keys=True),
    json.dumps(dict(context.node_config), sort_keys=True),
  )
  ask = envelope.read_ask(message)
  kept = _read(context.state, node.first())
  answer, kept = node.answer(ask, kept)
  if answer.status == envelope.UPDATE:
    _write(context.state, kept)
  return Message(envelope.answer(answer), reply_to=message)


@functools.lru_cache(maxsize=64)
def _node(run_config: str, node_config: str) -> Node:
  """The node of this process, built once: in a simulation, of many nodes."""
  machine.keep_compiled_programs()
  run, own = json.loads(run_config), json.loads(node_config)
  chosen = settings.read(run)
  file = settings.own_file(own)
  data = own_data(*file) if file else None
  return Node(chosen.config, settings.client_id(own), own=data, **chosen.parts)


def _read(state: RecordDict, first: Kept) -> Kept:
  """What this node keeps; what it had at first where it keeps nothing.

  Args:
    state: Flower's, which lives as long as the node's process.
    first: of `Node.first`, also for the structure of what is kept.
  """
  record = state.get(_KEPT)
  if not isinstance(record, ConfigRecord):
    return first
  memory, kept = None, first.state
  arrays = state[_STATE]
  assert isinstance(arrays, ArrayRecord)
  if record['round_idx'] != -1:
    q = arrays['memory'].numpy()
    memory = Memory(int(record['round_idx']), q)  # type: ignore[arg-type]
  leaves, structure = jax.tree.flatten(first.state)
  if leaves:
    found = [arrays[str(i)].numpy() for i in range(len(leaves))]
    kept = jax.tree.unflatten(structure, found)
  sent = None
  if 'sent_round' in record:
    kept_answer: dict[str, Any] = dict(record)
    loss, hits, examples = kept_answer['sent_sums']
    answer = envelope.Answer(
      kept_answer['client'],
      envelope.UPDATE,
      kept_answer['sent_message'],
      (loss, hits, examples),
    )
    sent = kept_answer['sent_round'], answer
  return Kept(memory, kept, sent)


def _write(state: RecordDict, kept: Kept) -> None:
  """Keeps what a round has left."""
  arrays: dict[str, Any] = {
    str(i): Array(np.asarray(leaf))
    for i, leaf in enumerate(jax.tree.leaves(kept.state))
  }
  round_idx = -1
  if kept.memory is not None:
    round_idx = kept.memory.round_idx
    arrays['memory'] = Array(kept.memory.q)
  record: dict[str, Any] = {'round_idx': round_idx}
  if kept.sent:
    last, answer = kept.sent
    record |= {
      'client': answer.client,
      'sent_round': last,
      'sent_message': answer.message,
      'sent_sums': list(answer.sums),
    }
  state[_KEPT] = ConfigRecord(record)
  state[_STATE] = ArrayRecord(arrays)
