"""What kernels do with layouts, sizes, threads and memory; how programs are cut into regions."""

from __future__ import annotations

import ctypes
import mmap
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import fulmen
from fulmen import _core
from fulmen.trace import trace_call

sys.path.insert(0, str(Path(__file__).parent))

from fused import compare, run_fused

SIZES = [0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 1000, 5000]


def check(fn, *args) -> None:
    fused, problem = compare(fn, args)
    assert fused.regions, fused.notes
    assert not problem, problem


@pytest.mark.parametrize("isa", ["sse", "avx2", "avx512"], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int32])
def test_sizes(dtype: torch.dtype, isa: str) -> None:
    for n in SIZES:
        x = (torch.arange(n) % 7 - 3).to(dtype)
        y = (torch.arange(n) % 5 + 1).to(dtype)
        check(lambda x, y: (x * y + x).abs() - y, x, y)


@pytest.mark.parametrize("isa", ["sse", "avx2", "avx512"], indirect=True)
@pytest.mark.parametrize("rows", [1, 3, 20])
def test_rows(rows: int, isa: str) -> None:
    for n in SIZES[1:]:
        x = torch.rand(rows, n, generator=torch.Generator().manual_seed(n))
        check(lambda x: x.softmax(-1), x)
        check(lambda x: x.softmax(0), x)
        check(lambda x: F.layer_norm(x, (x.shape[-1],)), x)
        check(lambda x: (x.sum(-1), x.mean(-1, True) + x, x.amax(0)), x)


LAYOUTS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.transpose(0, -1).contiguous().transpose(0, -1),
    "expanded": lambda x: x[:1].expand(x.shape),
    "expanded_last": lambda x: x[..., :1].expand(x.shape),
    "stepped": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "offset": lambda x: torch.cat([x, x])[x.shape[0] :],
    "reordered": lambda x: (
        x.permute(*reversed(range(x.ndim))).clone().permute(*reversed(range(x.ndim)))
    ),
}


@pytest.mark.parametrize("first", LAYOUTS)
@pytest.mark.parametrize("second", LAYOUTS)
def test_layouts(first: str, second: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in [(5, 7), (40, 33), (3, 4, 21), (2, 3, 1, 5)]:
        x = LAYOUTS[first](torch.randn(shape, generator=generator))
        y = LAYOUTS[second](torch.randn(shape, generator=generator))
        check(lambda x, y: torch.where(x > y, x * y, x - y).sigmoid(), x, y)
        check(lambda x, y: (x + y).softmax(-1) * y, x, y)
        # Sums of one sign: where terms cancel, the order decides the last digits.
        check(lambda x, y: (x * y).abs().sum(0), x, y)
        check(lambda x, y: (x * y).abs().sum((0, -1)), x, y)
        check(lambda x: x.abs().sum() * x.exp().mean(), x)


def test_broadcasting() -> None:
    x, row, column = torch.randn(6, 1, 9), torch.randn(9), torch.randn(4, 1)
    check(lambda x, row, column: x * row + column, x, row, column)
    check(lambda x, row, column: (x * row + column) / torch.tensor(3.0), x, row, column)


@pytest.mark.parametrize("f", [torch.addcmul, torch.addcdiv])
def test_operands_are_promoted_before_they_meet(f: Callable[..., torch.Tensor]) -> None:
    x, y = torch.randn(50, dtype=torch.float64), torch.rand(50) + 0.5
    check(lambda x, y: f(x, y, y, value=0.1) * 2, x, y)
    torch.testing.assert_close(
        fulmen.jit(lambda x, y: f(x, y, y, value=0.1) * 2, executors=["fusion"])(x, y),
        f(x, y.double(), y.double(), value=0.1) * 2, rtol=1e-14, atol=1e-14,
    )  # fmt: skip


def test_a_fraction_is_true() -> None:
    mask = torch.tensor([True, False, True])
    check(lambda x: (x.masked_fill(x, 0.1), x.masked_fill(x, -0.0)), mask)


def test_results_of_several_kinds() -> None:
    x = torch.randn(30, 50)
    check(lambda x: (x > 0, (x * 3).int(), x.double(), x.half(), x.bfloat16(), x.exp()), x)


def test_threads_get_their_own_rows() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        x = torch.randn(2000, 700)
        check(lambda x: x.exp().softmax(-1), x)
        check(lambda x: (x * 2).tanh(), x)
        check(lambda x: (x * 2).sum(0), x)
        check(lambda x: (x * 2).tanh(), torch.randn(1_500_000))
    finally:
        torch.set_num_threads(threads)


def test_long_sums_are_as_exact_as_eager() -> None:
    x = torch.rand(1, 3_000_000, generator=torch.Generator().manual_seed(0))
    check(lambda x: (x + 0.25).sum(-1), x)
    check(lambda x: (x + 0.25).mean(), x)


class GuardedPage:
    """Memory that ends where a page begins that may not be touched."""

    def __init__(self, nbytes: int) -> None:
        pages = (nbytes + mmap.PAGESIZE - 1) // mmap.PAGESIZE + 1
        self.map = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        libc = ctypes.CDLL(None, use_errno=True)
        for page in (0, pages):
            address = ctypes.c_void_p(start + page * mmap.PAGESIZE)
            assert libc.mprotect(address, mmap.PAGESIZE, 0) == 0
        self.first, self.last = mmap.PAGESIZE, pages * mmap.PAGESIZE

    def tensor(self, like: torch.Tensor, *, at_end: bool) -> torch.Tensor:
        count = like.numel()
        offset = self.last - count * like.element_size() if at_end else self.first
        t = torch.frombuffer(self.map, dtype=like.dtype, count=count, offset=offset)
        return t.copy_(like.flatten()).view(like.shape)


@pytest.mark.parametrize("isa", ["sse", "avx2", "avx512"], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.int64])
def test_nothing_outside_of_a_tensor_is_read(dtype: torch.dtype, isa: str) -> None:
    guarded = GuardedPage(8 * 5000)
    for shape in [(1,), (3,), (7,), (17,), (33,), (3, 5), (5, 17), (20, 33), (33, 2)]:
        values = torch.randn(shape).to(dtype)
        for at_end in (True, False):
            x = guarded.tensor(values, at_end=at_end)
            check(lambda x: x.float() * 2 + 1, x)
            check(lambda x: x.float().softmax(-1), x)
            check(lambda x: (x.float() + 1).sum(0), x)


def test_regions_are_functions_of_the_text() -> None:
    fused = run_fused(
        lambda x, y: (torch.matmul(x * y + 1, y.t()).relu() - 1, x.exp() * y),
        (torch.randn(4, 5), torch.randn(4, 5)),
    )
    text = str(fused.trace)
    again = fulmen.parse_trace(text)
    assert str(again) == text
    scope: dict = {}
    exec(text, scope)
    x, y = torch.randn(4, 5), torch.randn(4, 5)
    got = scope["computation"](x, y)
    torch.testing.assert_close(got[1], x.exp() * y)


def test_equal_regions_share_a_kernel() -> None:
    def layers(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        for _ in range(6):
            x = F.gelu(x @ w) * 0.71
        return x

    before = _core.kernel_counts()
    fused = run_fused(layers, (torch.randn(8, 8), torch.randn(8, 8)))
    after = _core.kernel_counts()
    assert fused.regions == 6
    assert after[0] - before[0] == 1 and after[1] > before[1]


def random_program(seed: int):
    """Elementwise operations, reductions and products, in no order that invites fusion."""

    def program(*inputs: torch.Tensor):
        rng = random.Random(seed)
        values = list(inputs)
        for _ in range(rng.randint(5, 40)):
            a, b = rng.choice(values), rng.choice(values)
            match rng.randrange(7):
                case 0:
                    values.append(a * b)
                case 1:
                    values.append(a - b)
                case 2:
                    values.append(torch.tanh(a) + 0.5)
                case 3:
                    values.append(torch.matmul(a, b) * 0.2)
                case 4:
                    values.append(a - a.mean(-1, keepdim=True))
                case 5:
                    values.append(torch.cumsum(a, 0) * 0.3)
                case 6:
                    values.append(a / (1 + b.abs().sum(0)))
        rng.shuffle(values)
        return values[: rng.randint(1, 4)]

    return program


@pytest.mark.parametrize("seed", range(40))
def test_partition_of_random_programs(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    inputs = tuple(torch.randn(9, 9, generator=generator, dtype=torch.float64) for _ in range(3))
    _, problem = compare(random_program(seed), inputs)
    assert not problem, problem


def test_partition_is_near_linear() -> None:
    def chain(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        for _ in range(400):
            x = torch.tanh(x * 1.01) @ w
        return x

    trace, _, _ = trace_call(chain, (torch.randn(4, 4), torch.randn(4, 4)), {})
    pipeline = _core.Pipeline(())
    trace = pipeline.run(trace)
    pipeline.fuse(trace)  # compiles the kernels
    pipeline = _core.Pipeline(())
    regions = pipeline.fuse(trace).bound_symbols
    assert sum(b.symbol.name.startswith("fusion") for b in regions) == 400
    microseconds = {name: us for name, us, _ in pipeline.timings}["partition"]
    assert microseconds / len(trace.bound_symbols) < 500


def test_what_autograd_records_is_left_to_it() -> None:
    w = torch.randn(5, 5, requires_grad=True)
    fused = run_fused(lambda w: (w * 2).exp().sum(), (w,))
    assert fused.regions == 0
    fused.outputs[0].backward()
    assert w.grad is not None


def test_gradients_come_from_kernels() -> None:
    def loss(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y = F.silu(x * w) * torch.tanh(x) + w
        return (y * y).sum()

    _core.set_flag("executors", "fusion")
    try:
        compiled = fulmen.jit(loss)
        x = torch.randn(20, 30, requires_grad=True)
        w = torch.randn(30, requires_grad=True)
        before = sum(_core.kernel_counts()[:2])
        got = torch.autograd.grad(compiled(x, w), (x, w))
        assert sum(_core.kernel_counts()[:2]) - before >= 2, "no kernel for one of the directions"
    finally:
        _core.set_flag("executors", "")
    for ours, eager in zip(got, torch.autograd.grad(loss(x, w), (x, w)), strict=True):
        torch.testing.assert_close(ours, eager)


WITHOUT_LLVM = """
import torch, fulmen
from fulmen import executors
assert "FULMEN_LLVM=none" in executors.llvm_problem()
f = fulmen.jit(lambda x: (x * 2).exp())
x = torch.randn(5)
assert torch.equal(f(x), (x * 2).exp())
assert set(fulmen.stats(f).kernels) == {"aten"}
"""

WITH_OPTION = """
import torch, fulmen
f = fulmen.jit(lambda x: (x * 2).exp())
x = torch.randn(5)
torch.testing.assert_close(f(x), (x * 2).exp())
assert fulmen.stats(f).kernels == {"fusion": 1}
"""


@pytest.mark.parametrize(
    ("program", "settings"),
    [
        (WITHOUT_LLVM, {"FULMEN_LLVM": "none", "FULMEN_EXECUTORS": "fusion"}),
        (WITH_OPTION, {"FULMEN_EXECUTORS": "fusion"}),
    ],
)
def test_settings(program: str, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
