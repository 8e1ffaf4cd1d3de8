"""`volar serve POLICY`: a trained policy behind a WebSocket, for `volar compare ws://...` and for robots."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from volar.cli.output import Output
from volar.core.errors import ConfigError

if TYPE_CHECKING:
    from volar.core.robot import Actor


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Answer observations with actions until Ctrl-C. Speaks openpi's framing, with a card that says what it expects."""

    policy: tyro.conf.Positional[Path]
    """a checkpoint or a training run"""
    execute: int
    """actions carried out per chunk; at most the policy's horizon"""
    host: str = "127.0.0.1"
    """address to bind to; anything but loopback needs a token"""
    port: int = 8000
    """0 takes a free one"""
    token_variable: str | None = None
    """environment variable that holds the token which clients must send"""
    device: str = "cpu"
    """where the policy runs, such as cuda"""
    vla_eval: Path | None = None
    """speak vla-eval's protocol, so that its benchmarks can evaluate the policy: JSON file that declares theirs
    (docs/remote.md)"""
    part: str | None = None
    """whose robot it is, for a policy of a mixture in which every data set is normalised by its own statistics"""
    asynchronous: bool = False
    """of a policy that reasons: act on its newest finished thought while the next one is being thought; how old it is
    travels with every chunk"""


def asynchronous(make_actor: Callable[[], "Actor"]) -> Callable[[], "Actor"]:
    """One thread that thinks for each actor."""
    from volar.policies.actor import PolicyActor
    from volar.policies.asynchronous import Asynchronous

    def make() -> "Actor":
        actor = make_actor()
        if not isinstance(actor, PolicyActor):
            raise ConfigError("A composition does not reason, so it cannot be served with --asynchronous.")
        return Asynchronous(actor, ThreadPoolExecutor(1, thread_name_prefix="thinking"))

    return make


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Serve, prog="volar serve", args=arguments)

    from volar.cli.actors import read_token
    from volar.cli.conventions import read_conventions
    from volar.cli.evaluate import read_policy
    from volar.core.robot import RobotSpec
    from volar.planning.composed import load_acting
    from volar.serving.server import PolicyServer
    from volar.serving.vla_eval_server import VlaEvalServer

    token = read_token(command.token_variable)
    conventions = None if command.vla_eval is None else read_conventions(command.vla_eval)
    config = read_policy(command.policy, command.part)
    make_actor = load_acting(config["folder"], execute=command.execute, device=command.device, part=command.part)
    if command.asynchronous:
        make_actor = asynchronous(make_actor)
    card = {
        "name": config["folder"].resolve().name, "hash": config["hash"], "kind": config["card"]["kind"],
        "policy": config["policy"], "horizon": config["policy"]["horizon"], "execute": command.execute,
        **({"part": command.part} if command.part else {}),
    }  # fmt: skip
    robot, place = RobotSpec.from_json(config["robot"]), {"host": command.host, "port": command.port, "token": token}
    if conventions is None:
        server = PolicyServer(make_actor, robot=robot, card=card, **place)
    else:
        server = VlaEvalServer(make_actor, robot=robot, conventions=conventions, name=card["name"], **place)
    print(f"Serving {command.policy} at {server.url}; Ctrl-C ends it.", file=sys.stderr, flush=True)
    try:
        server.run()
    except KeyboardInterrupt:
        server.stop()
    return Output({"url": server.url, "policy": str(command.policy)}, "Stopped.")
