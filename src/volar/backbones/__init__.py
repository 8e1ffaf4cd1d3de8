"""Images, instruction, proprioception -> Context."""

from volar.core.registry import Table

TABLE = Table(
    "backbone",
    {
        "compact": "volar.backbones.compact:Compact",
        "hf": "volar.backbones.hf:HuggingFace",
        "state": "volar.backbones.state:State",
        "tiny": "volar.backbones.tiny:Tiny",
    },
)
