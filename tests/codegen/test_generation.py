"""Kernels are generated beside the compilation of the program that they are for."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import torch

import fulmen
from fulmen import _core

SEVERAL = """
import os, torch, fulmen

def several(x, w):
    for i in range(11):
        x = torch.tanh(x * (i + 1) + i).matmul(w) - i if i % 2 else (x - i).exp().matmul(w) * i
    return x

def check(n):
    x, w = torch.rand(3, n), torch.rand(n, n) / n
    f = fulmen.jit(several, executors=["fusion"])
    torch.testing.assert_close(f(x, w), several(x, w), equal_nan=True)
    assert fulmen.stats(f).kernels["fusion"] >= 9, fulmen.stats(f).kernels
"""

FORKED = (
    SEVERAL
    + """
check(5)
child = os.fork()
if child == 0:
    check(40)
    os._exit(0)
check(40)
assert os.waitpid(child, 0)[1] == 0
"""
)

# Ends while a second thread may still be at work.
ENDED = (
    SEVERAL
    + """
from fulmen import _core
from fulmen.trace import trace_call
trace, _, _ = trace_call(several, (torch.rand(3, 5), torch.rand(5, 5)), {})
pipeline = _core.Pipeline(())
pipeline.fuse(pipeline.run(trace))
"""
)


@pytest.mark.parametrize("program", [SEVERAL + "check(5)\ncheck(5)\ncheck(50)\n", FORKED, ENDED])
def test_processes(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_threads_share_kernels() -> None:
    """The same kernels at the same time: each is generated once."""

    def fn(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        for i in range(6):
            x = torch.sin(x * 1.25 + 0.015625 * (i + 1)).matmul(w) - 0.375
        return x

    x, w = torch.rand(3, 6), torch.rand(6, 6)
    expected, before = fn(x, w), _core.kernel_counts()
    results: list[torch.Tensor] = []
    started = threading.Barrier(4)

    def call() -> None:
        started.wait()
        compiled = fulmen.jit(fn, executors=["fusion"])
        results.append(compiled(x, w))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(results) == 4
    for got in results:
        torch.testing.assert_close(got, expected)
    compiled = _core.kernel_counts()[0] - before[0]
    assert compiled == 6, f"{compiled} kernels for six different regions"


def test_nothing_fails_silently(capfd: pytest.CaptureFixture[str]) -> None:
    assert _core.kernel_counts()[3] == 0
    assert "no kernel" not in capfd.readouterr().err
