"""What happens between words and motion. Reasoners: a batch -> the context that the decoder works on; members never
import one another. Requests to language models, and what their answers mean."""

from volar.core.registry import Table

TABLE = Table(
    "reasoner",
    {
        "ecot": "volar.reasoning.ecot:ECoT",
        "visual": "volar.reasoning.visual:Visual",
    },
)
