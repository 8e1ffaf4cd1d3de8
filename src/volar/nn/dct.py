"""The discrete cosine transform as a matrix: chunks are short, so a matrix product beats an FFT."""

import math
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor


@cache
def dct_matrix(size: int) -> Float[Tensor, "size size"]:
    """Orthonormal DCT-II, the one of `scipy.fft.dct(norm="ortho")`: coefficients = M @ signal, signal = M.T @ them.

    Row 0 is the mean times sqrt(size); row j has j half periods. The tensor is shared: do not write to it.
    """
    step = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * (step + 0.5) * step[:, None]) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix.float()
