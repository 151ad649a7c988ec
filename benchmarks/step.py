"""Whole training steps (forward, backward, AdamW), and AdamW alone, against eager as shipped."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from typing import Any

import torch
from peers import available, chosen
from torch import nn

from measure import console, interleaved, ms, save, table, timed
from zoo import llama, pythia, tokens, training_step

MODELS = {"pythia-14m": pythia, "Llama, 4 layers of 512": llama}


def update_only(count: int, **options: Any) -> Callable[[], Any]:
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(512, 512)) for _ in range(count)]
    for p in parameters:
        p.grad = torch.randn_like(p)
    return torch.optim.AdamW(parameters, lr=1e-4, **options).step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", nargs="*", default=available())
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    peers = chosen(args.peers)
    peers.pop("lightning-thunder", None)  # it has no backward() inside of a program
    rows: list[dict[str, Any]] = []
    shown = table(
        "A training step (ms; x: relative to eager)",
        "program", "", "first call", "minimum", "median", "x",
    )  # fmt: skip

    def compare(program: str, make: Callable[..., Callable[[], Any]]) -> None:
        calls = {"eager": make(), "eager, fused=True": make(fused=True)}
        calls |= {name: compile(make()) for name, compile in peers.items() if name != "eager"}
        first = {name: timed(call)[0] for name, call in calls.items()}
        for call in calls.values():
            call(), call()
        timings = interleaved(calls, rounds=args.rounds)
        for name, t in timings.items():
            ratio = t.minimum / timings["eager"].minimum
            shown.add_row(
                program if name == "eager" else "", name, ms(first[name]), ms(t.minimum),
                ms(t.median), f"{ratio:.2f}", end_section=name == list(timings)[-1],
            )  # fmt: skip
            rows.append(
                {
                    "program": program, "of": name, "min_s": t.minimum, "median_s": t.median,
                    "first_s": first[name],
                }
            )  # fmt: skip

    for name, make in MODELS.items():
        torch.manual_seed(0)
        model = make()
        ids = tokens(model)
        compare(name, lambda m=model, i=ids, **o: training_step(copy.deepcopy(m), i, **o))
    compare("AdamW alone, 21 M parameters", lambda **options: update_only(80, **options))
    console.print(shown)
    save("step", rows)


if __name__ == "__main__":
    main()
