"""Floating-point operations counted while they run: torch's counter with formulas for what it misses or exaggerates.

One multiply-add is 2 operations; elementwise work, norms, softmax and look-ups are not counted. docs/compute.md.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten
Shape = Sequence[int]

# Operations with matrix products inside that have no formula here. Meeting one is reported, not passed over.
WITHOUT_FORMULA = (
    "_trilinear", "_native_multi_head_attention", "_transformer_encoder_layer_fwd", "_cudnn_rnn",
    "_fft_r2c", "_fft_c2c", "_fft_c2r", "_linalg_svd", "_linalg_eigh", "_linalg_solve_ex", "linalg_lstsq",
    "linalg_inv_ex", "linalg_cholesky_ex", "linalg_qr", "_int_mm", "_weight_int8pack_mm", "_weight_int4pack_mm",
)  # fmt: skip


def attention_flops(query: Shape, key: Shape, value: Shape) -> int:
    """Scores and mixing of query [b n s d] over keys [b m t d] and values [b m t e]. A mask saves nothing: it is
    added to scores that were computed. Grouped heads (m < n) cost as much as n."""
    batch, heads, new, width = query
    return 2 * batch * heads * new * key[2] * (width + value[3])


def _attention(query: Shape, key: Shape, value: Shape, *rest: Any, **named: Any) -> int:
    return attention_flops(query, key, value)


def _attention_backward(gradient: Shape, query: Shape, key: Shape, value: Shape, *rest: Any, **named: Any) -> int:
    """Four products. Fused kernels compute the scores once more; that is theirs, so one model counts alike on all."""
    return 2 * attention_flops(query, key, value)


def _product(*operands: Any, **named: Any) -> int:
    """Matrix or vector times vector: every number of the first operand is multiplied and added once."""
    return 2 * prod(operands[0])


def _product_added(added: Shape, matrix: Shape, vector: Shape, **named: Any) -> int:
    return _product(matrix, vector)


def _convolution_backward(
    gradient: Shape, pictures: Shape, weight: Shape, bias: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int, wanted: list[bool], **named: Any,
) -> int:  # fmt: skip
    """As much as forward for each gradient that is wanted. (torch forgets the groups.)"""
    places = pictures[2:] if transposed else gradient[2:]
    return 2 * pictures[0] * prod(places) * prod(weight) * sum(wanted[:2])


def _distances(points: Shape, others: Shape, *rest: Any, **named: Any) -> int:
    """All pairs of points [b n d] and [b m d], like the product that gives them."""
    return 2 * prod(points) * others[-2]


def _recurrent(sequence: Shape, from_input: Shape, from_hidden: Shape, *rest: Any, **named: Any) -> int:
    """One direction of one layer on [t b d]; mkldnn runs it as one operation."""
    return 2 * prod(sequence[:-1]) * (prod(from_input) + prod(from_hidden))


def _recurrent_backward(*operands: Any, **named: Any) -> int:
    return 2 * _recurrent(*operands)


FORMULAS: Mapping[Any, Callable[..., int]] = {
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention: _attention,
    aten._scaled_dot_product_efficient_attention: _attention,
    aten._scaled_dot_product_cudnn_attention: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    aten._scaled_dot_product_flash_attention_backward: _attention_backward,
    aten._scaled_dot_product_efficient_attention_backward: _attention_backward,
    aten._scaled_dot_product_cudnn_attention_backward: _attention_backward,
    aten.convolution_backward: _convolution_backward,
    aten.mkldnn_rnn_layer: _recurrent,
    aten.mkldnn_rnn_layer_backward: _recurrent_backward,
    aten._cdist_forward: _distances,
    aten._euclidean_dist: _distances,
    aten.mv: _product,
    aten.dot: _product,
    aten.addmv: _product_added,
}


@dataclass
class Tally:
    """Filled when the block ends. uncounted: operations with matrix products in them for which there is no formula."""

    flops: int = 0
    uncounted: tuple[str, ...] = ()


class _NoModules(nullcontext[None]):
    """Instead of torch's tracker of which module is at work: only the total is wanted, and the tracker stumbles over a
    parameter's view that enters a module under no_grad."""

    parents = ("Global",)


@contextmanager
def counting() -> Iterator[Tally]:
    """Count every operation inside the block, backward passes included. Do not nest; slows small models several times.

    >>> with counting() as tally:
    ...     _ = torch.ones(3, 4) @ torch.ones(4, 5)
    >>> tally.flops
    120
    """
    tally, met = Tally(), dict[str, int]()

    def unknown(name: str, *operands: Any, **named: Any) -> int:
        met[name] = met.get(name, 0) + 1
        return 0

    formulas = {**FORMULAS, **{getattr(aten, name): partial(unknown, name) for name in WITHOUT_FORMULA}}
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its one operation for a whole layer has no formula
    try:
        counter = FlopCounterMode(display=False, custom_mapping=formulas)
        counter.mod_tracker = _NoModules()  # type: ignore[assignment]
        with counter:
            yield tally
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    tally.flops, tally.uncounted = counter.get_total_flops(), tuple(sorted(met))
