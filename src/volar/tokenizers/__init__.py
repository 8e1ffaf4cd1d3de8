"""Numbers <-> tokens. One file each; none imports another."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from volar.core.registry import Table, build_config

if TYPE_CHECKING:
    from volar.core.model import Tokenizer

TABLE = Table(
    "tokenizer",
    {
        "bins": "volar.tokenizers.bins:Bins",
        "fast": "volar.tokenizers.fast:Fast",
        "beast": "volar.tokenizers.beast:Beast",
        "vq": "volar.tokenizers.vq:VectorQuantised",
        "rvq": "volar.tokenizers.rvq:ResidualQuantised",
        "spline_rvq": "volar.tokenizers.spline_rvq:SplineQuantised",
        "fsq": "volar.tokenizers.fsq:FiniteScalar",
        "text": "volar.tokenizers.text:Text",
    },
)


def to_asset(name: str, tokenizer: "Tokenizer") -> bytes:
    """A fitted tokenizer as the bytes of a JSON file, for `Checkpoint.assets`. name: under which `TABLE` knows it."""
    content = {
        "name": name,
        "config": asdict(tokenizer.config),
        "horizon": tokenizer.horizon,
        "action_dim": tokenizer.action_dim,
        "state": tokenizer.state(),
    }
    return json.dumps(content).encode()


def from_asset(data: bytes) -> "Tokenizer":
    """The tokenizer that `to_asset` stored: same ids, same chunks, no other file needed."""
    content = json.loads(data)
    cls = TABLE.load(content["name"])
    config = build_config(cls, content["config"])
    tokenizer = cls(config, horizon=content["horizon"], action_dim=content["action_dim"])
    tokenizer.restore(content["state"])
    return tokenizer
