"""`volar language tune OUT`: SmolLM2 taught to set movement primitives, by lessons that geometry writes."""

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import tyro

from volar.cli.output import Output
from volar.core.errors import ConfigError
from volar.core.progress import counting
from volar.train.language.config import TuneConfig

LOG = "loss.jsonl"


@dataclass(frozen=True, kw_only=True)
class Tune:
    """Train low-rank additions to SmolLM2-135M (volar weights install) on random tables, and write them as a folder
    that --backend local takes. A function of the seed; nothing is downloaded. Goes on where it was interrupted."""

    out: tyro.conf.Positional[Path]
    """folder of the tuned model"""
    config: tyro.conf.OmitArgPrefixes[TuneConfig] = field(default_factory=TuneConfig)
    save_every: int = 50
    """steps between savings; what is saved can be used at once"""


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Tune, prog="volar language tune", args=arguments)
    from volar.reasoning.language.text_network import load_smol
    from volar.reasoning.language.tuned_model import is_tuned, read_unfinished, save_tuned
    from volar.train.language.tuning import Progress, tune

    begun = read_unfinished(command.out)
    if is_tuned(command.out) and begun is None:
        raise ConfigError(f"{command.out} holds a tuned model already and is not overwritten. Choose another folder.")
    if begun is not None and dict(begun.config) != asdict(command.config):
        raise ConfigError(
            f"{command.out} was begun with other settings: {dict(begun.config)}. Go on with those, or choose another "
            f"folder."
        )
    if command.save_every < 1:
        raise ConfigError(f"--save-every must be at least 1, got {command.save_every}.")
    network, config = load_smol(), command.config
    command.out.mkdir(parents=True, exist_ok=True)
    losses: list[float] = []

    def report(now: Progress) -> None:
        losses.append(now.loss)
        print(json.dumps({"step": now.step, "loss": round(now.loss, 5)}), file=log, flush=True)
        advance(1)
        if now.step % command.save_every == 0 or now.step == config.steps:
            state = None if now.step == config.steps else now.state()
            save_tuned(command.out, now.additions(), config=asdict(config), step=now.step, state=state)

    done = 0 if begun is None else begun.step
    _keep(command.out / LOG, done)
    with (
        (command.out / LOG).open("a") as log,
        counting("tune", config.steps - done, shown=sys.stderr.isatty()) as advance,
    ):
        tune(network, config, report, begun=begun)
    last = sum(losses[-20:]) / len(losses[-20:])
    data = {"model": str(command.out), "steps": config.steps, "loss": last}
    return Output(data, f"Tuned for {config.steps} steps, loss {last:.3f} nats per token: {command.out}")


def _keep(log: Path, steps: int) -> None:
    """The first lines only: what came after the last saving is done again."""
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    log.write_text("".join(lines[:steps]))
