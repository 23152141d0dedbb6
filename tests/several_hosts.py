"""Starts the processes of a run on several hosts, all on this machine."""

import os
import pathlib
import socket
import subprocess
import sys
from concurrent import futures

ROOT = pathlib.Path(__file__).parents[1]


def start(command, count):
  """Processes 0 to count - 1 of a command that takes the flags of `train`."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  hosts = [f'--coordinator=localhost:{port}', f'--num_hosts={count}']
  return [
    subprocess.Popen(
      [*command, *hosts, f'--host={index}'],
      cwd=ROOT,
      # Hosts may differ in how many devices they have.
      env=os.environ
      | {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': f'{1 + (index == 0)}'},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(count)
  ]


def finish(processes, timeout=240):
  """The (exit code, output, errors) of every process."""
  try:
    # Side by side, because they wait for one another.
    with futures.ThreadPoolExecutor(len(processes)) as pool:
      read = lambda process: process.communicate(timeout=timeout)
      found = list(pool.map(read, processes))
  finally:
    for process in processes:
      process.kill()
      process.communicate()
  return [
    (process.returncode, *texts)
    for process, texts in zip(processes, found, strict=True)
  ]


def flags():
  """(coordinator, count, index), of a script that `start` has started."""
  coordinator, count, index = (word.partition('=')[2] for word in sys.argv[-3:])
  return coordinator, int(count), int(index)
