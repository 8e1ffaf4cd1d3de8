"""Context -> chunk. One file each; none imports another."""

from volar.core.registry import Table

TABLE = Table(
    "decoder",
    {
        "autoregressive": "volar.decoders.autoregressive:Autoregressive",
        "blockwise": "volar.decoders.blockwise:Blockwise",
        "discrete_diffusion": "volar.decoders.discrete_diffusion:DiscreteDiffusion",
        "regression": "volar.decoders.regression:Regression",
        "flow": "volar.decoders.flow:Flow",
        "equilibrium": "volar.decoders.equilibrium:Equilibrium",
        "flow_expert": "volar.decoders.flow_expert:FlowExpert",
        "mip": "volar.decoders.mip:Mip",
        "primitives": "volar.decoders.primitives:Primitives",
        "diffusion": "volar.decoders.diffusion:Diffusion",
    },
)
