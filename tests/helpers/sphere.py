"""Random features of length 1, for the tests of metrics and losses."""

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor


def unit(n: int, d: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Shape (n, d), uniform on the sphere."""
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype), dim=1)


def rotation(d: int, seed: int = 0) -> Tensor:
    """A random orthogonal matrix of shape (d, d)."""
    normal = torch.randn(d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(normal).Q


@st.composite
def pairs(draw: st.DrawFn, least: int = 1) -> tuple[Tensor, Tensor]:
    """Matched features: from unrelated to equal, on the whole sphere or in a narrow cone."""
    n, d, seed = draw(st.integers(least, 12)), draw(st.integers(2, 9)), draw(st.integers(0, 2**16))
    x, noise, axis = unit(n, d, seed), unit(n, d, seed + 1), unit(1, d, seed + 2)
    y = F.normalize(x + draw(st.sampled_from([0.0, 0.1, 1.0, 10.0])) * noise, dim=1)
    cone = draw(st.sampled_from([0.0, 3.0])) * axis
    return F.normalize(x + cone, dim=1), F.normalize(y - cone, dim=1)
