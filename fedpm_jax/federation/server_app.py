"""The server as Flower starts it: `flwr run .`"""

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedpm_jax.federation import settings
from fedpm_jax.federation.strategy import FedPM
from fedpm_jax.system import machine

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
  """Runs, or continues, what the run's configuration says."""
  machine.keep_compiled_programs()
  chosen = settings.read(context.run_config)
  strategy = FedPM(
    chosen.config,
    chosen.workdir,
    min_answers=chosen.min_answers,
    timeout=chosen.timeout,
    join_timeout=chosen.join_timeout,
    **chosen.parts,
  )
  strategy.start(grid)
