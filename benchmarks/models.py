"""Small transformers: inference, decoding at batch 1 with a static cache, forward and backward."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from typing import Any

import torch
from peers import Compile, available, chosen
from torch import nn
from transformers import StaticCache

from measure import console, interleaved, ms, save, table, timed
from zoo import MODELS, TOKENS, next_token_loss, tokens

Call = Callable[[], object]


def inference(model: nn.Module, compile: Compile) -> Call:
    model.eval()
    ids = tokens(model)
    compiled = compile(model)

    def call() -> object:
        with torch.no_grad():
            return compiled(ids).logits

    return call


def decoding(model: nn.Module, compile: Compile) -> Call | None:
    """One more token after TOKENS; None for a model that keeps no cache."""
    model.eval()
    if not hasattr(model, "generate") or not model.can_generate():
        return None
    ids = tokens(model)
    compiled = compile(model)
    cache = StaticCache(config=model.config, max_cache_len=2 * TOKENS)
    with torch.no_grad():
        model(ids, past_key_values=cache, use_cache=True)
    lengths = [layer.cumulative_length.clone() for layer in cache.layers]

    def call() -> object:
        # The same step again and again: its work must not grow while it is measured.
        for layer, length in zip(cache.layers, lengths, strict=True):
            layer.cumulative_length.copy_(length)
        with torch.no_grad():
            return compiled(ids[:, :1], past_key_values=cache, use_cache=True).logits

    return call


def training(model: nn.Module, compile: Compile) -> Call:
    model.train()
    model.requires_grad_()
    ids = tokens(model)
    compiled = compile(model)

    def call() -> object:
        model.zero_grad(set_to_none=True)
        loss = next_token_loss(compiled, ids)
        loss.backward()
        return loss.detach()

    return call


KINDS: dict[str, Callable[[nn.Module, Compile], Call | None]] = {
    "inference": inference,
    "decoding": decoding,
    "forward and backward": training,
}


def measure(kind: str, rounds: int, names: list[str]) -> list[dict[str, Any]]:
    peers = chosen(names)
    shown = table(
        f"{kind}, {TOKENS} tokens, float32 (ms; x: relative to eager)",
        "model", "", "first call", "minimum", "median", "x",
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    for name, make in MODELS.items():
        # torch.compile counts compilations of code that models share, and then gives up.
        torch.compiler.reset()
        torch.manual_seed(0)
        original = make()
        calls: dict[str, Call] = {}
        first: dict[str, float] = {}
        results: dict[str, Any] = {}
        with console.status(f"{kind}: {name} …"):
            for peer, compile in peers.items():
                torch.manual_seed(1)
                call = KINDS[kind](copy.deepcopy(original), compile)
                if call is None:
                    break
                try:
                    first[peer], results[peer] = timed(call)
                    call()
                except Exception as e:  # a peer's failure is a result
                    console.print(f"[dim]{name}, {peer}: {type(e).__name__}: {str(e)[:80]}[/]")
                    continue
                calls[peer] = call
            timings = interleaved(calls, rounds=rounds) if calls else {}
        for peer, t in timings.items():
            ratio = t.minimum / timings["eager"].minimum
            shown.add_row(
                name if peer == "eager" else "", peer, ms(first[peer]), ms(t.minimum),
                ms(t.median), f"{ratio:.2f}", end_section=peer == list(timings)[-1],
            )  # fmt: skip
            difference = (results[peer] - results["eager"]).abs().max().item()
            rows.append(
                {
                    "kind": kind, "model": name, "of": peer, "first_s": first[peer],
                    "min_s": t.minimum, "median_s": t.median, "max_difference": difference,
                }
            )  # fmt: skip
    console.print(shown)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--peers", nargs="*", default=available())
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    rows = []
    for kind in args.kinds:
        rows += measure(kind, args.rounds, args.peers)
    save("models", rows)


if __name__ == "__main__":
    main()
