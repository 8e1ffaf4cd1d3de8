"""Numbers <-> tokens. One file each; none imports another."""

from volar.core.registry import Table

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
