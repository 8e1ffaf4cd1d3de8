"""Context -> chunk. One file each; none imports another."""

from volar.core.registry import Table

TABLE = Table(
    "decoder",
    {
        "regression": "volar.decoders.regression:Regression",
        "flow": "volar.decoders.flow:Flow",
    },
)
