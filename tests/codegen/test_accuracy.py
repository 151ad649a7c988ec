"""Elementary functions alone: within 2 units in the last place, or no further off than eager."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from fused import run_fused

N = 100_000
SPECIAL = torch.tensor(
    [0.0, -0.0, math.inf, -math.inf, math.nan, 1e-40, -1e-40, 1e-45, 1.2e-38, 3e38, -3e38, 1.0,
     -1.0, 0.5, -0.5, 88.7, 89.0, -87.0, -104.0, -103.9, 100.0, 3.0, -3.0]
)  # fmt: skip


def uniform(low: float, high: float) -> torch.Tensor:
    return torch.linspace(low, high, N)


def logarithmic(low: float, high: float) -> torch.Tensor:
    x = torch.exp2(torch.linspace(math.log2(low), math.log2(high), N // 2))
    return torch.cat([x, -x])


RANGES = {
    "exp": [uniform(-87, 88.7), uniform(-1, 1)],
    "expm1": [uniform(-20, 88.7), uniform(-1, 1), logarithmic(1e-20, 1)],
    "exp2": [uniform(-120, 127)],
    "log": [logarithmic(1e-38, 1e38).abs(), uniform(0.5, 2)],
    "log2": [logarithmic(1e-38, 1e38).abs()],
    "log10": [logarithmic(1e-38, 1e38).abs()],
    "log1p": [uniform(-0.999, 10), uniform(-0.01, 0.01), logarithmic(1e-20, 0.99)],
    "tanh": [uniform(-10, 10), uniform(-1, 1), logarithmic(1e-20, 1)],
    "sigmoid": [uniform(-80, 80), uniform(-5, 5)],
    "erf": [uniform(-5, 5), uniform(-1, 1), logarithmic(1e-20, 1)],
    "erfc": [uniform(-5, 9)],
    "sin": [uniform(-100, 100), uniform(-3e4, 3e4), logarithmic(1e-20, 1e20)],
    "cos": [uniform(-100, 100), uniform(-3e4, 3e4), logarithmic(1e-20, 1e20)],
    "tan": [uniform(-100, 100)],
    "asin": [uniform(-1, 1)],
    "acos": [uniform(-1, 1)],
    "atan": [logarithmic(1e-20, 1e20)],
    "sinh": [uniform(-88, 88), logarithmic(1e-20, 1)],
    "cosh": [uniform(-88, 88)],
    "asinh": [logarithmic(1e-20, 1e38)],
    "acosh": [uniform(1, 100), logarithmic(1, 1e38).abs()],
    "atanh": [uniform(-0.999, 0.999)],
    "sqrt": [logarithmic(1e-38, 1e38).abs()],
    "rsqrt": [logarithmic(1e-38, 1e38).abs()],
    "lgamma": [uniform(0.1, 50)],
    "digamma": [uniform(0.1, 50)],
    "erfinv": [uniform(-0.999, 0.999)],
}


def ulps(got: torch.Tensor, exact: torch.Tensor) -> float:
    """The largest error in units in the last place, over normal finite results."""
    nearest = exact.to(got.dtype)
    step = torch.nextafter(nearest.abs(), torch.tensor(math.inf)) - nearest.abs()
    kept = torch.isfinite(nearest) & torch.isfinite(step) & (nearest.abs() > 1.2e-38)
    error = (got.double() - exact).abs()[kept] / step.double()[kept]
    return error.max().item() if error.numel() else 0.0


@pytest.mark.parametrize("isa", ["avx2", "avx512"], indirect=True)
@pytest.mark.parametrize("name", RANGES)
def test_function(name: str, isa: str) -> None:
    function = getattr(torch, name)
    for x in RANGES[name]:
        fused = run_fused(lambda x: function(x), (x,))
        assert fused.regions == 1
        exact = function(x.double())
        error = ulps(fused.outputs[0], exact)
        assert error <= max(2.0, ulps(function(x), exact)), f"{name}: {error:.2f} ulp"


@pytest.mark.parametrize("isa", ["sse", "avx2", "avx512"], indirect=True)
@pytest.mark.parametrize("name", RANGES)
def test_special_values(name: str, isa: str) -> None:
    function = getattr(torch, name)
    x = SPECIAL.repeat(3)  # whole vectors and a tail
    got, exact = run_fused(lambda x: function(x), (x,)).outputs[0], function(x.double())
    expected = exact.float()
    assert torch.equal(torch.isnan(got), torch.isnan(expected))
    infinite = torch.isinf(expected)
    assert torch.equal(torch.isinf(got), infinite), f"{x[torch.isinf(got) != infinite]}"
    kept = ~torch.isnan(expected)
    assert torch.equal(torch.signbit(got)[kept], torch.signbit(expected)[kept])
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=2e-45, equal_nan=True)


@pytest.mark.parametrize("isa", ["sse", "avx2", "avx512"], indirect=True)
@pytest.mark.parametrize("scale", [1.0, 0.7071067811865475])
def test_gelu_is_no_worse_than_by_hand(scale: float, isa: str) -> None:
    """Its erf, to which 1 is added, is only exact relative to 1."""

    def gelu(x: torch.Tensor) -> torch.Tensor:
        return 0.5 * x * (1 + torch.erf(x * scale))

    for x in (uniform(-8, 8), logarithmic(1e-20, 1), SPECIAL):
        fused = run_fused(gelu, (x,))
        assert fused.regions == 1
        exact, eager = gelu(x.double()), gelu(x)
        kept = torch.isfinite(exact) & torch.isfinite(eager)
        ours, theirs = ((y.double() - exact).abs()[kept].max() for y in (fused.outputs[0], eager))
        assert ours <= 1.5 * theirs + 1e-7
        assert torch.equal(fused.outputs[0].isnan(), eager.isnan())
