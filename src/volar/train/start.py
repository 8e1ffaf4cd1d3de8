"""Setting out from the weights and vocabularies of a trained policy: train on words, then on actions alone.

Not resuming: steps, optimiser and averages begin anew, and numbers are normalised by the new data.
"""

from pathlib import Path

from volar.core.checkpoint import Checkpoint, load_checkpoint
from volar.core.errors import ConfigError
from volar.policies.config import PolicyConfig
from volar.policies.vla import Policy, latest_checkpoint

PARTS = ("backbone", "decoder", "tokenizer", "reasoner")


def read_start(path: Path, config: PolicyConfig) -> Checkpoint:
    """The checkpoint at `path`, or the newest one of the run there. Raises ConfigError unless it has the same parts as
    `config`; their options may differ where the weights do not depend on them."""
    checkpoint = load_checkpoint(latest_checkpoint(path), device="cpu")
    if checkpoint.config.get("kind") != "policy":
        raise ConfigError(f"{path} holds a {checkpoint.config.get('kind')!r}, not a policy to set out from.")
    before = PolicyConfig(**checkpoint.config["policy"])
    theirs, ours = ({part: getattr(each, part) for part in PARTS} for each in (before, config))
    if different := [f"{part}: {theirs[part]} there, {ours[part]} now" for part in PARTS if theirs[part] != ours[part]]:
        raise ConfigError(f"Setting out from {path} takes the same parts as it has; {', '.join(different)}.")
    return checkpoint


def take_weights(policy: Policy, start: Checkpoint, *, where: str) -> None:
    """Raises ConfigError that names the first weights that do not fit."""
    ours = {name: tuple(value.shape) for name, value in policy.state_dict().items()}
    theirs = {name: tuple(value.shape) for name, value in start.tensors.items()}
    different = [
        f"{name}: {theirs.get(name, 'absent')} there, {ours.get(name, 'absent')} now"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]
    if different:
        more = f", and {len(different) - 3} more" if len(different) > 3 else ""
        raise ConfigError(
            f"The weights of {where} do not fit this policy: {'; '.join(different[:3])}{more}. Take the options it "
            f"was trained with, and a robot of the same size."
        )
    policy.load_state_dict(dict(start.tensors))
