"""Backbone + reasoner, if any, + decoder = one policy: loss on a batch, chunk for a batch, and the checkpoint that
rebuilds all of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

import volar
from volar.backbones import TABLE as BACKBONES
from volar.core.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from volar.core.errors import ConfigError
from volar.core.model import (
    UNLIMITED,
    AnytimeDecoder,
    Backbone,
    Batch,
    Budget,
    Context,
    Decoder,
    LayeredDecoder,
    LayerShape,
    Sample,
    TokenDecoder,
    Tokenizer,
    WarmStart,
    WarmStartDecoder,
)
from volar.core.reasoner import Considered, Reasoner
from volar.core.registry import build_config
from volar.core.robot import RobotSpec
from volar.core.thoughts import Recall, Thought
from volar.data.normalize import Statistics
from volar.decoders import TABLE as DECODERS
from volar.policies.config import PolicyConfig
from volar.policies.parts import Normalizers, Widths, require_part, which_part
from volar.reasoning import TABLE as REASONERS
from volar.tokenizers import TABLE as TOKENIZERS
from volar.tokenizers import from_asset, to_asset

TOKENIZER_ASSET = "action_tokenizer.json"  # beside a language backbone's tokenizer.json
REASONER_ASSET = "reasoner.json"
ACTION, PROPRIOCEPTION = "action", "observation.state"  # LeRobot's names of the two features


class Policy(nn.Module):
    """Final. `robot` and `statistics` travel with the weights, so units cannot be lost.

    parts: instead of `statistics`, those of every data set of a mixture that are normalised each by its own; such a
    policy learns, but does not act before `load` is told whose robot it is on. normalizers: one, or one a part.
    robots: of every part, where they differ; `robot` is then any of them, with the cameras that all share. widths: of
    the network, by default those of the widest robot.
    """

    def __init__(
        self,
        config: PolicyConfig,
        *,
        robot: RobotSpec,
        statistics: Mapping[str, Statistics] | None = None,
        parts: Mapping[str, Mapping[str, Statistics]] | None = None,
        robots: Mapping[str, RobotSpec] | None = None,
        widths: Widths | None = None,
        assets: Mapping[str, bytes] | None = None,
    ) -> None:
        super().__init__()
        assert (statistics is None) != (parts is None)
        self.config, self.robot, self.statistics, self.parts = config, robot, dict(statistics or {}), dict(parts or {})
        self.robots = dict(robots or {})
        self.widths = widths or Widths.of([robot, *self.robots.values()])
        known = self.parts.values() or [self.statistics]
        self.normalizers = tuple(Normalizers(config, each, self.widths) for each in known)
        backbone, decoder = BACKBONES.load(config.backbone), DECODERS.load(config.decoder)
        self.backbone: Backbone = backbone(
            build_config(backbone, config.backbone_options),
            cameras=robot.cameras,
            proprioception=self.widths.proprioception,
            assets=assets,
        )
        self.reasoner = _reasoner(config, self.backbone.width, robot, assets)
        self.decoder: Decoder = decoder(
            build_config(decoder, config.decoder_options),
            width=self.backbone.width,
            horizon=config.horizon,
            action_dim=self.widths.action,
            **_speech(config, decoder, self.widths.action, assets),
            **_layers(config, decoder, self.backbone),
        )

    @property
    def acting(self) -> Normalizers:
        """Those by which it acts. Raises ConfigError for a policy of several parts."""
        if self.parts:
            raise which_part(self.parts)
        return self.normalizers[0]

    def fit_tokenizer(self, chunks: Float[Tensor, "n h a"], *, generator: torch.Generator) -> None:
        """Fit the decoder's tokenizer, if it has one, on normalised chunks of the training split."""
        if isinstance(self.decoder, TokenDecoder):
            self.decoder.tokenizer.fit(chunks, generator=generator)

    def fit_reasoner(self, thoughts: Sequence[Thought]) -> None:
        """Fit the reasoner, if there is one, on labels of the training split."""
        if self.reasoner is not None:
            self.reasoner.fit(thoughts)

    def loss(self, batch: Batch, *, generator: torch.Generator | None = None) -> Float[Tensor, " b"]:
        assert batch.actions is not None and batch.valid is not None
        if self.reasoner is None:
            return self.decoder.loss(self.backbone.encode(batch), batch.actions, batch.valid, generator=generator)
        learned = self.reasoner.learn(batch, self.backbone.encode, generator=generator)
        acting = self.decoder.loss(learned.context, batch.actions, batch.valid, generator=generator)
        return acting + learned.loss

    forward = loss  # what accelerate and DDP call

    def consider(
        self, batch: Batch, *, recalls: Sequence[Recall | None], given: Sequence[Thought | None],
        generator: torch.Generator | None = None,
    ) -> Considered:  # fmt: skip
        """See, and think where there is a reasoner; one recall and one given thought per row, or None."""
        if self.reasoner is not None:
            return self.reasoner.think(batch, self.backbone.encode, recalls=recalls, given=given, generator=generator)
        if any(thought is not None for thought in given):
            raise ConfigError("This policy has no reasoner, so nothing that is said to it can lead it.")
        context = self.backbone.encode(batch)
        rows, device = len(context.tokens), context.tokens.device
        return Considered(context=context, thoughts=(), evaluations=torch.zeros(rows, dtype=torch.long, device=device))

    def decode(
        self, context: Context, *, generator: torch.Generator | None = None, budget: Budget = UNLIMITED,
        start: WarmStart | None = None,
    ) -> Sample:  # fmt: skip
        """Normalised chunks. ConfigError for a limited budget where the decoder does not iterate, and for a start
        where it cannot set out from one."""
        if isinstance(self.decoder, WarmStartDecoder):
            return self.decoder.sample(context, generator=generator, budget=budget, start=start)
        if start is not None:
            raise ConfigError(f"The decoder {self.config.decoder!r} cannot set out from a previous chunk.")
        if isinstance(self.decoder, AnytimeDecoder):
            return self.decoder.sample(context, generator=generator, budget=budget)
        if budget.limited:
            raise ConfigError(f"The decoder {self.config.decoder!r} does not iterate, so it takes no budget.")
        return self.decoder.sample(context, generator=generator)

    def predict(
        self, batch: Batch, *, generator: torch.Generator | None = None, budget: Budget = UNLIMITED,
        start: WarmStart | None = None,
    ) -> Sample:  # fmt: skip
        """`consider` without a past, then `decode`."""
        nothing = [None] * len(batch.instructions)
        considered = self.consider(batch, recalls=nothing, given=nothing, generator=generator)
        return self.decode(considered.context, generator=generator, budget=budget, start=start)

    def save(self, folder: Path, *, facts: Mapping[str, Any]) -> None:
        """facts: how it came to be (step, seed, data, commit); shown by `volar info`, not needed to rebuild."""
        card = self.backbone.card()
        config = {
            "kind": "policy",
            "volar": volar.__version__,
            "policy": asdict(self.config),
            "robot": self.robot.to_json(),
            **({"parts": list(self.parts)} if self.parts else {}),
            **({"robots": {name: each.to_json() for name, each in self.robots.items()}} if self.robots else {}),
            **({"widths": asdict(self.widths)} if self.robots or self.widths != Widths.of([self.robot]) else {}),
            "card": {**asdict(card), "kind": card.kind},
            "facts": dict(facts),
        }
        statistics: dict[str, Any] = _plain(self.statistics)
        if self.parts:
            statistics = {part: _plain(each) for part, each in self.parts.items()}
        tensors, assets = self.state_dict(), self.backbone.assets()
        if isinstance(self.decoder, TokenDecoder):
            assert self.config.tokenizer is not None
            assets = {**assets, TOKENIZER_ASSET: to_asset(self.config.tokenizer, self.decoder.tokenizer)}
        if self.reasoner is not None:
            assets = {**assets, REASONER_ASSET: json.dumps(self.reasoner.state()).encode()}
        save_checkpoint(folder, Checkpoint(config=config, statistics=statistics, tensors=tensors, assets=assets))

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu", part: str | None = None) -> "Policy":
        """part: whose robot it is to act on, of a mixture whose data sets are normalised each by its own statistics.
        Raises ConfigError for a damaged folder, one that is not a policy, or a part that it has not."""
        checkpoint = load_checkpoint(folder, device=device)
        if checkpoint.config.get("kind") != "policy":
            raise ConfigError(f"{folder} holds a {checkpoint.config.get('kind')!r}, not a policy.")
        statistics, parts = None, None
        robot, widths = RobotSpec.from_json(checkpoint.config["robot"]), checkpoint.config.get("widths")
        robots = {name: RobotSpec.from_json(each) for name, each in checkpoint.config.get("robots", {}).items()}
        if known := checkpoint.config.get("parts"):
            parts = {name: _from_plain(checkpoint.statistics[name]) for name in known}
        else:
            statistics = _from_plain(checkpoint.statistics)
        if part is not None:
            statistics, parts = require_part(parts or {}, part, folder), None
            robot, robots = robots.get(part, robot), {}
        policy = cls(
            PolicyConfig(**checkpoint.config["policy"]), robot=robot, robots=robots, statistics=statistics, parts=parts,
            widths=Widths(**widths) if widths else None, assets=checkpoint.assets,
        )  # fmt: skip
        policy.load_state_dict(dict(checkpoint.tensors))
        return policy.to(device).eval()


def _plain(statistics: Mapping[str, Statistics]) -> dict[str, Any]:
    return {name: value.to_json() for name, value in statistics.items()}


def _from_plain(statistics: Mapping[str, Any]) -> dict[str, Statistics]:
    return {name: Statistics.from_json(value) for name, value in statistics.items()}


def _speech(
    config: PolicyConfig, decoder: type[Decoder], action_dim: int, assets: Mapping[str, bytes] | None
) -> dict[str, Tokenizer]:
    """The constructor's `tokenizer` for decoders that take one: restored from assets, else not yet fitted."""
    if not issubclass(decoder, TokenDecoder):
        if config.tokenizer is not None:
            raise ConfigError(
                f"The decoder {config.decoder!r} has no use for a tokenizer; leave {config.tokenizer!r} out."
            )
        return {}
    if config.tokenizer is None:
        raise ConfigError(
            f"The decoder {config.decoder!r} speaks in tokens; name a tokenizer: {', '.join(TOKENIZERS)}."
        )
    if assets is not None:
        return {"tokenizer": from_asset(assets[TOKENIZER_ASSET])}
    cls = TOKENIZERS.load(config.tokenizer)
    options = build_config(cls, config.tokenizer_options)
    return {"tokenizer": cls(options, horizon=config.horizon, action_dim=action_dim)}


def _reasoner(
    config: PolicyConfig, width: int, robot: RobotSpec, assets: Mapping[str, bytes] | None
) -> Reasoner | None:
    """Restored from assets, else not yet fitted."""
    if config.reasoner is None:
        if config.reasoner_options:
            raise ConfigError(f"reasoner_options {sorted(config.reasoner_options)} need a reasoner.")
        return None
    cls = REASONERS.load(config.reasoner)
    reasoner = cls(build_config(cls, config.reasoner_options), width=width, cameras=robot.cameras)
    if assets is not None:
        reasoner.restore(json.loads(assets[REASONER_ASSET]))
    return reasoner


def _layers(config: PolicyConfig, decoder: type[Decoder], backbone: Backbone) -> dict[str, LayerShape]:
    """The constructor's `layers` for decoders that read the backbone's keys and values."""
    if not issubclass(decoder, LayeredDecoder):
        return {}
    if backbone.layer_shape is None:
        raise ConfigError(
            f"The decoder {config.decoder!r} reads a backbone's keys and values; {config.backbone!r} keeps none. "
            f"Every backbone of volar does: {', '.join(BACKBONES)}."
        )
    return {"layers": backbone.layer_shape}


def latest_checkpoint(path: Path) -> Path:
    """`path` itself when it is a checkpoint, else the newest one of the run in it. ConfigError when there is none."""
    if (path / "config.json").is_file():
        return path
    found = sorted((path / "checkpoints").glob("step-*"))
    if not found:
        raise ConfigError(f"No checkpoint at {path}: expected config.json in it, or checkpoints/step-* below it.")
    return found[-1]
