"""What a cached call costs beside the work itself: one-element tensors, chains of operations."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import fulmen
from measure import console, interleaved, save, table, us


class Scales(nn.Module):
    """Many parameters, each used by one elementwise operation."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(1)) for _ in range(count))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for scale in self.scales:
            x = x * scale
        return x


def add(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a + b


def chain(length: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function of `length` operations, none of which can be left out or merged."""

    def run(x: torch.Tensor) -> torch.Tensor:
        for _ in range(length):
            x = torch.sin(x)
        return x

    return run


@dataclass(frozen=True)
class Case:
    title: str
    function: Callable[..., torch.Tensor]
    inputs: tuple[torch.Tensor, ...]
    grad: bool = True
    backward: bool = False

    def call(self, compiler: Callable) -> Callable[[], object]:
        compiled, inputs = compiler(self.function), self.inputs
        if self.backward:
            return lambda: compiled(*inputs).sum().backward()
        return lambda: compiled(*inputs)


def cases() -> list[Case]:
    one = torch.ones(1)
    leaf = torch.ones(1, requires_grad=True)
    scales = Scales(100)
    linears = nn.Sequential(*(nn.Linear(8, 8) for _ in range(50)))
    return [
        Case("a + b", add, (one, one.clone())),
        Case("a + b, inputs require grad, forward", add, (leaf, leaf.detach().requires_grad_())),
        Case(
            "the same, forward and backward",
            add,
            (leaf, leaf.detach().requires_grad_()),
            backward=True,
        ),
        Case("100 parameters, elementwise, no grad", scales, (one,), grad=False),
        Case("the same, forward and backward", scales, (one,), backward=True),
        Case("50 small linear layers, no grad", linears, (torch.ones(1, 8),), grad=False),
    ]


def program(f: Callable) -> Callable:
    """The compiled program with its own guards, without Dynamo's before it."""
    return fulmen.dynamo.FulmenCompiler()(torch.fx.symbolic_trace(f), [])


def compilers(torch_compile: bool) -> dict[str, Callable]:
    found: dict[str, Callable] = {
        "eager": lambda f: f,
        "Fulmen's program": program,
        "fulmen.jit": fulmen.jit,
    }
    if torch_compile:
        found["torch.compile"] = torch.compile
    return found


def calls(names: dict[str, Callable], rounds: int) -> list[dict[str, Any]]:
    rows = []
    result = table("Cached calls (µs, minimum; median)", "call", *names)
    for case in cases():
        with console.status(f"{case.title} …"), torch.set_grad_enabled(case.grad):
            ready = {name: case.call(compiler) for name, compiler in names.items()}
            for call in ready.values():
                call()
                call()
            timings = interleaved(ready, rounds=rounds, inner=100)
        result.add_row(case.title, *(f"{us(t.minimum)}; {us(t.median)}" for t in timings.values()))
        rows.append(
            {"call": case.title}
            | {f"{name}_min_s": t.minimum for name, t in timings.items()}
            | {f"{name}_median_s": t.median for name, t in timings.items()}
        )
    console.print(result)
    return rows


def chains(names: dict[str, Callable], rounds: int) -> list[dict[str, Any]]:
    """Time of one more operation: the slope between two lengths, so that the call itself drops out.
    TorchScript's interpreter stands for ATen's own time: it calls the same operators, without
    Python between them."""
    lengths = (10, 50, 200)
    x = torch.ones(1)
    names = {"TorchScript": lambda f: torch.jit.trace(f, x)} | names
    minimum: dict[str, dict[int, float]] = {name: {} for name in names}
    for length in lengths:
        with console.status(f"chain of {length} operations …"), torch.no_grad():
            ready = {}
            for name, compiler in names.items():
                compiled = compiler(chain(length))
                ready[name] = lambda f=compiled: f(x)
                for _ in range(3):
                    ready[name]()
            timings = interleaved(ready, rounds=rounds, inner=20)
        for name, timing in timings.items():
            minimum[name][length] = timing.minimum
    result = table(
        "Chains of sin (µs, minimum)",
        "",
        *(f"{n} operations" for n in lengths),
        "one more",
        "beside",
    )
    rows = []
    span = lengths[-1] - lengths[0]
    slope = {name: (t[lengths[-1]] - t[lengths[0]]) / span for name, t in minimum.items()}
    for name, times in minimum.items():
        beside = slope[name] - slope["TorchScript"]
        result.add_row(name, *(us(times[n]) for n in lengths), us(slope[name]), us(beside))
        rows.append(
            {"chain": name, "slope_s": slope[name], "beside_s": beside}
            | {f"length_{n}_min_s": times[n] for n in lengths}
        )
    console.print(result)
    console.print("[dim]one more: a further operation; beside: that less TorchScript's[/]")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch-compile", action="store_true", help="time torch.compile too")
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    names = compilers(args.torch_compile)
    save("call_overhead", calls(names, args.rounds) + chains(names, args.rounds))


if __name__ == "__main__":
    main()
