"""`volar serve-env ENVIRONMENT`: simulators behind a WebSocket, for tasks named remote/HOST:PORT/environment/task."""

import sys
from dataclasses import dataclass

import tyro

from volar.cli.output import Output


@dataclass(frozen=True, kw_only=True)
class ServeEnv:
    """Lend environments to volar elsewhere until Ctrl-C. Runs without torch, so that the simulator's own virtual
    environment needs only volar's code, numpy, jaxtyping, msgpack, websockets and tyro beside it."""

    served: tyro.conf.Positional[tuple[str, ...]]
    """environments such as metaworld, or single tasks such as metaworld/faucet-open"""
    host: str = "127.0.0.1"
    """address to bind to; anything but loopback needs a token"""
    port: int = 8765
    """0 takes a free one"""
    token_variable: str | None = None
    """environment variable that holds the token; clients have it in VOLAR_ENV_TOKEN"""


def main(arguments: list[str]) -> Output:
    command = tyro.cli(ServeEnv, prog="volar serve-env", args=arguments)

    from volar.cli.actors import read_token
    from volar.serving.environments import EnvironmentServer

    server = EnvironmentServer(
        command.served, host=command.host, port=command.port, token=read_token(command.token_variable)
    )
    print(f"Serving; a task is remote/{server.address}/ENVIRONMENT/TASK. Ctrl-C ends it.", file=sys.stderr, flush=True)
    try:
        server.run()
    except KeyboardInterrupt:
        server.stop()
    return Output({"address": server.address, "served": list(command.served)}, "Stopped.")
