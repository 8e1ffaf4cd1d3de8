"""Trains low-rank additions to SmolLM2 on lessons, a table per step; a function of the seed. Not of policies."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from volar.core.errors import ConfigError, RobotFault
from volar.nn.lora import add_low_rank, learned, start_from
from volar.reasoning.language.motion_request import MotionRequest
from volar.reasoning.language.prompts import SubTask
from volar.reasoning.language.text_network import Smol
from volar.reasoning.language.tuned_model import Unfinished, load_additions
from volar.train.language.config import TuneConfig
from volar.train.language.lessons import Lesson, lesson

SCALE = 2.0
PADDING = -1
MOMENTS = ("exp_avg", "exp_avg_sq")  # of Adam, as torch calls them


@dataclass(frozen=True, kw_only=True)
class Progress:
    """loss: nats per token of the answers, mean over the step. additions: as they are now, for `fold_low_rank`. state:
    what a later call goes on from."""

    step: int
    loss: float
    additions: Callable[[], dict[str, Tensor]]
    state: Callable[[], dict[str, Tensor]]


def tune(
    network: Smol, config: TuneConfig, report: Callable[[Progress], None], *, begun: Unfinished | None = None
) -> dict[str, Tensor]:
    """The additions for `fold_low_rank`; `network` is wrapped with them afterwards. begun: goes on from there and comes
    to the same as without an interruption; ConfigError where it is of another shape."""
    generator = torch.Generator().manual_seed(config.seed)
    network.model.requires_grad_(False)
    first = len(network.model.layers) - config.layers
    upper = {f"layers.{first + place}": layer for place, layer in enumerate(network.model.layers[first:])}
    wrapped = add_low_rank(upper, rank=config.rank, scale=SCALE, generator=generator)
    if config.start is not None:
        start_from(wrapped, load_additions(Path(config.start)))
    named = {f"{name}.{part}": getattr(layer, part) for name, layer in wrapped.items() for part in ("down", "up")}
    trained = list(named.values())
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    if begun is not None:
        _restore(optimizer, named, begun)
    for step in range(0 if begun is None else begun.step, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _rate(step, config)
        total = 0.0
        for number in range(config.tables):
            studied = lesson((config.seed * config.steps + step) * config.tables + number)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.half):
                loss = lesson_loss(network, studied) / config.tables
            loss.backward()
            total += float(loss.detach())
        if not math.isfinite(total):
            raise RobotFault(f"The loss is {total} in step {step}; try a lower learning rate.")
        nn.utils.clip_grad_norm_(trained, config.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        report(Progress(step=step + 1, loss=total, additions=lambda: learned(wrapped),
                        state=lambda: _state(optimizer, named)))  # fmt: skip
    return learned(wrapped)


def _state(optimizer: torch.optim.Optimizer, named: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Values and Adam's two moments."""
    found = {}
    for name, parameter in named.items():
        moments = optimizer.state[parameter]
        found |= {name: parameter.detach(), **{f"{name}.{moment}": moments[moment] for moment in MOMENTS}}
    return found


def _restore(optimizer: torch.optim.Optimizer, named: Mapping[str, nn.Parameter], begun: Unfinished) -> None:
    parts = ("", *(f".{moment}" for moment in MOMENTS))
    wanted = {f"{name}{part}": value.shape for name, value in named.items() for part in parts}
    if wanted != {name: value.shape for name, value in begun.state.items()}:
        raise ConfigError("What was begun is of another shape: it was tuned with other layers or another rank.")
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(begun.state[name])
            moments = {moment: begun.state[f"{name}.{moment}"].clone() for moment in MOMENTS}
            optimizer.state[parameter] = {"step": torch.tensor(float(begun.step)), **moments}


def _rate(step: int, config: TuneConfig) -> float:
    """Linear warm-up, then half a cosine down to a twentieth."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    share = (step - config.warmup) / max(1, config.steps - config.warmup)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share))


def lesson_loss(network: Smol, studied: Lesson) -> Float[Tensor, ""]:
    """Mean over all tokens of all answers. What the prompts have in common, the table, is read only once."""
    prompts = [network.prompt(each.asked) for each in studied.questions]
    answers = [[*network.ids(each.answer), *network.ends] for each in studied.questions]
    shared = _shared(prompts)
    model, losses = network.model, []
    past = model(model.embedding(torch.tensor([prompts[0][:shared]]))).layers
    # Short answers and long ones apart, so that little is computed on padding.
    for kind in (SubTask, MotionRequest):
        rows = [row for row, each in enumerate(studied.questions) if isinstance(each.right, kind)]
        if not rows:
            continue
        ids = nn.utils.rnn.pad_sequence(
            [torch.tensor(prompts[row][shared:] + answers[row]) for row in rows],
            batch_first=True,
            padding_value=PADDING,
        )
        repeated = tuple(
            (keys.expand(len(rows), -1, -1, -1), values.expand(len(rows), -1, -1, -1)) for keys, values in past
        )
        real = torch.cat([torch.ones(len(rows), shared, dtype=torch.bool), ids != PADDING], dim=1)
        hidden = model(model.embedding(ids.clamp_min(0)), mask=real, past=repeated).hidden[:, :-1]
        begins = torch.tensor([len(prompts[row]) - shared for row in rows])
        told = (torch.arange(1, ids.shape[1]) >= begins[:, None]) & (ids[:, 1:] != PADDING)
        logits = model.logits(hidden[told][None])[0].float()
        losses.append(F.cross_entropy(logits, ids[:, 1:][told], reduction="sum"))
    return torch.stack(losses).sum() / sum(len(answer) for answer in answers)


def _shared(prompts: Sequence[Sequence[int]]) -> int:
    """How many ids all begin with; one of every prompt is left."""
    shortest = min(len(prompt) for prompt in prompts) - 1
    return next((place for place in range(shortest) if len({prompt[place] for prompt in prompts}) > 1), shortest)
