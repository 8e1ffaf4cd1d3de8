"""Latency per chunk of every decoder on one trunk, against the floor: the same matrix products alone, one by one.

python bench/decoders/speed.py --out docs/results/decoders/speed.json
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from volar.core.fingerprint import fingerprint
from volar.core.model import Context, Decoder, LayeredDecoder, TokenDecoder
from volar.decoders import TABLE
from volar.nn.transformer import Trunk
from volar.tokenizers import TABLE as TOKENIZERS

WIDTH, DEPTH, HEADS, CONTEXT, HORIZON, DIM = 192, 4, 6, 96, 16, 7
PRODUCTS = (
    "mm", "addmm", "bmm", "baddbmm", "linear", "scaled_dot_product_attention", "_scaled_dot_product_attention_math",
    "_scaled_dot_product_flash_attention_for_cpu",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Medians over interleaved rounds; the floor is measured in the same rounds."""

    out: Path
    rounds: int = 15
    batches: tuple[int, ...] = (1, 64)
    threads: int = 1
    compile: bool = True
    """also with the trunk's blocks compiled"""


class Products(TorchDispatchMode):
    """Notes every matrix product that is made, so that it can be repeated alone."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Callable[[], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.__name__.split(".")[0] in PRODUCTS:
            copies = [each.detach().clone() if isinstance(each, Tensor) else each for each in args]
            self.calls.append(lambda: func(*copies, **kwargs))
        return func(*args, **kwargs)


def build(name: str, trunk: Trunk) -> Decoder:
    cls = TABLE.load(name)
    more: dict[str, Any] = {}
    if issubclass(cls, TokenDecoder):
        tokenizer_class = TOKENIZERS.load("bins")
        tokenizer = tokenizer_class(tokenizer_class.Config(), horizon=HORIZON, action_dim=DIM)
        tokenizer.fit(torch.tanh(torch.randn(256, HORIZON, DIM)))
        more["tokenizer"] = tokenizer
    if issubclass(cls, LayeredDecoder):
        more["layers"] = trunk.layer_shape
    return cls(cls.Config(), width=WIDTH, horizon=HORIZON, action_dim=DIM, **more).eval()


def milliseconds(act: Callable[[], Any]) -> float:
    started = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - started)


def measure(name: str, batch: int, command: Speed) -> dict[str, Any]:
    torch.manual_seed(0)
    trunk = Trunk(WIDTH, depth=DEPTH, heads=HEADS).eval()
    decoder = build(name, trunk)
    tokens, mask = torch.randn(batch, CONTEXT, WIDTH), torch.ones(batch, CONTEXT, dtype=torch.bool)

    def chunk() -> Any:
        context: Context = trunk.context(tokens, mask)
        return decoder.sample(context, generator=torch.Generator().manual_seed(0))

    with torch.inference_mode():
        products = Products()
        with products:
            sample = chunk()

        def floor() -> None:
            for call in products.calls:
                call()

        times: dict[str, list[float]] = {"chunk": [], "floor": []}
        compiled = compile_blocks(trunk, chunk) if command.compile else None
        if compiled is not None:
            times["compiled"] = []
            difference = float((compiled().actions - sample.actions).abs().max())
        for act in (chunk, floor):
            act()
        for _ in range(command.rounds):
            times["chunk"].append(milliseconds(chunk))
            times["floor"].append(milliseconds(floor))
            if compiled is not None:
                times["compiled"].append(milliseconds(compiled))
    medians = {kind: statistics.median(values) for kind, values in times.items()}
    evaluations = float(sample.evaluations.float().mean())
    row = {"decoder": name, "batch": batch, "evaluations": evaluations, "milliseconds": medians,
           "over_floor": medians["chunk"] / medians["floor"], "products": len(products.calls)}  # fmt: skip
    if compiled is not None:
        row |= {"compiled_speedup": medians["chunk"] / medians["compiled"], "compiled_difference": difference}
    return row


def compile_blocks(trunk: Trunk, chunk: Callable[[], Any]) -> Callable[[], Any]:
    """`chunk` with the trunk's blocks compiled while it runs."""
    eager = trunk.blocks
    fast = nn.ModuleList(torch.compile(block, dynamic=True) for block in eager)

    def run() -> Any:
        trunk.blocks = fast
        try:
            return chunk()
        finally:
            trunk.blocks = eager

    run()
    return run


def main(command: Speed) -> None:
    torch.set_num_threads(command.threads)
    rows = []
    for name in TABLE:
        for batch in command.batches:
            row = measure(name, batch, command)
            rows.append(row)
            print(json.dumps(row), flush=True)
    sizes = {"width": WIDTH, "depth": DEPTH, "heads": HEADS, "context": CONTEXT, "horizon": HORIZON, "action_dim": DIM}
    command.out.parent.mkdir(parents=True, exist_ok=True)
    content = {"sizes": sizes, "threads": command.threads, "rounds": command.rounds, "rows": rows, **fingerprint()}
    command.out.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Speed))
