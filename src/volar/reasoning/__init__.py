"""What stands between seeing and acting. Reasoners make the context that a decoder works on, and never import one
another; `language` is how a language model sets motions."""

from volar.core.registry import Table

TABLE = Table(
    "reasoner",
    {
        "ecot": "volar.reasoning.ecot:ECoT",
        "visual": "volar.reasoning.visual:Visual",
    },
)
