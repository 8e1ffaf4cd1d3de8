"""A learned value of an observation: a small network on the frozen features of the policy that acts (V-VLAPS, arXiv
2601.00969). Knows how to foretell, to be saved and to be loaded; `value_training.py` fits it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor, nn

from volar.core.checkpoint import Checkpoint, file_hash, load_checkpoint, save_checkpoint
from volar.core.errors import ConfigError
from volar.core.robot import Observation
from volar.planning.value import expected, upper_bound
from volar.policies.actor import PolicyActor
from volar.policies.vla import latest_checkpoint

KIND = "value"
HIDDEN = 4  # times the width of the features, as published


class ValueHead(nn.Module):
    """Final. `members` networks side by side: features [n d] -> hidden -> `outputs` numbers each.

    outputs: 1 for a number, more for the logits of that many equal bins of [0, 1].
    """

    def __init__(self, width: int, *, hidden: int, members: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.outputs = outputs
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.inner = nn.Parameter(_uniform(members, width, hidden, generator))
        self.inner_bias = nn.Parameter(torch.zeros(members, 1, hidden))
        self.outer = nn.Parameter(_uniform(members, hidden, outputs, generator))
        self.outer_bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def standardise(self, features: Float[Tensor, "n d"]) -> None:
        """Take centre and scale from these; what never varied among them says nothing."""
        self.get_buffer("centre").copy_(features.mean(0))
        spread = features.std(0, correction=0)
        self.get_buffer("scale").copy_(torch.where(spread > 1e-6, 1 / spread.clamp_min(1e-6), 0.0))

    def forward(self, features: Float[Tensor, "*e n d"]) -> Float[Tensor, "e n k"]:
        """Examples for all members alike [n d], or each one's own [e n d]."""
        inputs = (features - self.get_buffer("centre")) * self.get_buffer("scale")
        return torch.relu(inputs @ self.inner + self.inner_bias) @ self.outer + self.outer_bias

    @torch.no_grad()
    def values(self, features: Float[Tensor, "n d"]) -> Float64[np.ndarray, "e n"]:
        found = self(features).double().cpu()
        if self.outputs == 1:
            return found[..., 0].numpy()
        return np.stack([expected(masses) for masses in found.softmax(-1).numpy()])


def _uniform(members: int, fan_in: int, fan_out: int, generator: torch.Generator) -> Float[Tensor, "e i o"]:
    return (torch.rand(members, fan_in, fan_out, generator=generator) * 2 - 1) / fan_in**0.5


@torch.inference_mode()
def readout(actor: PolicyActor, observations: Sequence[Observation]) -> Float32[np.ndarray, "n d"]:
    """The policy's frozen features: the mean of its backbone's context, before a reasoner has thought anything, and
    what the backbone itself makes of that mean as one more token that sees the context."""
    context = actor.policy.backbone.encode(actor.batch(observations))
    weights = context.mask[..., None].to(context.tokens.dtype)
    mean = (context.tokens * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True)
    sees: Bool[Tensor, "1 1"] = torch.ones(1, 1, dtype=torch.bool, device=mean.device)
    token = context.extend(mean, sees).hidden
    return torch.cat([mean, token], dim=-1)[:, 0].float().cpu().numpy()


def times(observations: Sequence[Observation]) -> Float32[np.ndarray, "n 1"]:
    """Seconds since the episode began: all that the time control may see."""
    return np.array([[observation.time] for observation in observations], dtype=np.float32)


class LearnedValue:
    """Final. What `value=` of PlanningActor takes: an observation -> a number, in (0, 1) but for rounding where returns
    were learned, on no scale at all where an order was.

    actor: of the policy that the head belongs to; it is asked for features only. weight: standard deviations of the
    members that are added to their mean (UCB).
    """

    def __init__(self, head: ValueHead, actor: PolicyActor, *, time_only: bool, weight: float = 0.0) -> None:
        self.head, self.actor, self.time_only, self.weight = head.eval(), actor, time_only, weight

    def many(self, observations: Sequence[Observation]) -> Float64[np.ndarray, " n"]:
        features = times(observations) if self.time_only else readout(self.actor, observations)
        return upper_bound(self.head.values(torch.from_numpy(features)), weight=self.weight)

    def __call__(self, observation: Observation) -> float:
        return float(self.many([observation])[0])


def checkpoint_hash(path: Path) -> str:
    """Stands for all files of a checkpoint, as records of episodes name it."""
    return file_hash(latest_checkpoint(path) / "config.json")[:16]


def save_value(
    folder: Path, head: ValueHead, *, policy: Path, actor: PolicyActor, config: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> None:  # fmt: skip
    """A checkpoint that names the policy it belongs to. config: of ValueConfig. facts: how well it foretells."""
    shape = {"width": head.inner.shape[1], "hidden": head.inner.shape[2], "members": len(head.inner),
             "outputs": head.outputs}  # fmt: skip
    content = {
        "kind": KIND, "policy": checkpoint_hash(policy), "robot": actor.policy.robot.to_json(), "shape": shape,
        "value": dict(config), "facts": dict(facts),
    }  # fmt: skip
    save_checkpoint(folder, Checkpoint(config=content, statistics={}, tensors=head.state_dict()))


def read_value(folder: Path, policy: Path) -> Checkpoint:
    """What `folder` holds, proved to be a value of the policy at `policy`. Raises ConfigError."""
    checkpoint = load_checkpoint(folder)
    if checkpoint.config.get("kind") != KIND:
        raise ConfigError(
            f"{folder} holds a {checkpoint.config.get('kind')!r}, not a value; train one by `volar train "
            f"recipes/value.py`."
        )
    require_policy(checkpoint.config["policy"], policy, what=f"The value in {folder}")
    return checkpoint


def load_value(folder: Path, actor: PolicyActor, *, policy: Path, weight: float = 0.0) -> LearnedValue:
    """The value in `folder` for the policy at `policy`, which `actor` runs. Raises ConfigError for a damaged folder and
    for a value of another policy."""
    checkpoint = read_value(folder, policy)
    head = ValueHead(**checkpoint.config["shape"], generator=torch.Generator())
    head.load_state_dict(dict(checkpoint.tensors))
    return LearnedValue(head, actor, time_only=checkpoint.config["value"]["control"] == "time", weight=weight)


def require_policy(theirs: str | None, policy: Path, *, what: str) -> None:
    """ConfigError unless `theirs` is the hash of the policy at `policy`."""
    ours = checkpoint_hash(policy)
    if theirs != ours:
        raise ConfigError(
            f"{what} belongs to {'no known policy' if theirs is None else f'the policy {theirs}'}, but {policy} is "
            f"{ours}. Features of different policies mean different things; record roll-outs of this one by `volar "
            f"data rollouts {policy}` and train a value on them."
        )
