"""`volar bridge URL`: a model server of vla-eval as a policy server of ours, for `volar compare ws://...`."""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from volar.cli.output import Output


@dataclass(frozen=True, kw_only=True)
class Bridge:
    """Speak vla-eval on one side and our own protocol on the other until Ctrl-C."""

    url: tyro.conf.Positional[str]
    """address of the model server, such as ws://127.0.0.1:8000"""
    task: str
    """a task of the environment it will act in, such as metaworld/faucet-open: whose cameras and actions are meant"""
    conventions: Path
    """JSON file that declares what the model server expects; docs/remote.md shows one"""
    port: int = 8001
    """0 takes a free one; bound to loopback"""


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Bridge, prog="volar bridge", args=arguments)

    from volar.cli.conventions import read_conventions
    from volar.envs import make_env
    from volar.serving.server import PolicyServer
    from volar.serving.vla_eval_client import VlaEvalActor

    conventions = read_conventions(command.conventions)
    env = make_env(command.task)
    robot = env.spec
    env.close()
    first = VlaEvalActor(command.url, conventions, robot)
    first.close()
    card = {"name": str(first.server.get("model_server", "a model server of vla-eval")), "horizon": 1, "execute": 1}
    server = PolicyServer(
        lambda: VlaEvalActor(command.url, conventions, robot), robot=robot, card=card, port=command.port
    )
    print(f"{command.url} is spoken to at {server.url}; Ctrl-C ends it.", file=sys.stderr, flush=True)
    try:
        server.run()
    except KeyboardInterrupt:
        server.stop()
    return Output({"url": server.url, "model_server": command.url}, "Stopped.")
