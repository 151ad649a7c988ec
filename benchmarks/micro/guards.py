"""What a call pays to know that its program still fits: the guards alone, and whole hits.

The minimum of many rounds; on a machine that others use as well only that says something.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from call_overhead import Scales, add
from litgpt import GPT, Config
from torch import nn

import fulmen
from measure import console, interleaved, save, table, us


def llama(layers: int) -> tuple[nn.Module, torch.Tensor]:
    """LitGPT's Llama, tiny but for its layers."""
    config = Config.from_name(
        "Llama-2-7b-hf",
        n_layer=layers,
        n_embd=32,
        n_head=4,
        n_query_groups=4,
        intermediate_size=64,
        padded_vocab_size=64,
        block_size=16,
    )
    return GPT(config).eval(), torch.randint(0, 64, (1, 8))


def guards(rounds: int) -> list[dict[str, Any]]:
    result = table("Guards alone", "program", "µs", "instructions", "words", "inputs")
    programs: list[tuple[str, Any, tuple[torch.Tensor, ...]]] = [
        ("a + b", add, (torch.ones(1), torch.ones(1))),
        ("100 parameters", Scales(100), (torch.ones(1),)),
    ]
    for layers in (2, 32):
        model, tokens = llama(layers)
        programs.append((f"Llama, {layers} layers", model, (tokens,)))
    rows = []
    for name, function, inputs in programs:
        jitted = fulmen.jit(function)
        with torch.no_grad():
            for _ in range(3):
                jitted(*inputs)
            native = getattr(jitted, "_fulmen", jitted)
            seconds, instructions, words = native.time_guards(rounds, *inputs)
        count = len(fulmen.last_traces(jitted)[0].inputs)
        result.add_row(name, us(seconds), str(instructions), str(words), str(count))
        rows.append(
            {"guards": name, "min_s": seconds, "instructions": instructions, "words": words}
        )
    console.print(result)
    return rows


def hits(rounds: int) -> list[dict[str, Any]]:
    one, leaf = torch.ones(1), torch.ones(1, requires_grad=True)
    single, many = fulmen.jit(add), fulmen.jit(add)
    many(one, one)
    for size in range(2, 10):
        many(torch.ones(size), torch.ones(size))
    shapes = [torch.ones(size) for size in range(1, 10)]

    def rotate() -> None:
        for x in shapes:
            many(x, x)

    calls: dict[str, Callable[[], object]] = {
        "eager": lambda: add(one, one),
        "hit": lambda: single(one, one),
        "hit after 8 other shapes": lambda: many(one, one),
        "eager, grad": lambda: add(leaf, leaf),
        "hit, grad": lambda: single(leaf, leaf),
        "nine shapes in turn, each": rotate,
    }
    single(leaf, leaf)
    timings = interleaved(calls, rounds=rounds, inner=100)
    result = table("a + b on one element", "call", "µs, minimum")
    rows = []
    for name, timing in timings.items():
        seconds = timing.minimum / (9 if "each" in name else 1)
        result.add_row(name, us(seconds))
        rows.append({"call": name, "min_s": seconds})
    console.print(result)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    args = parser.parse_args()
    save("guards", guards(args.rounds) + hits(args.rounds))


if __name__ == "__main__":
    main()
