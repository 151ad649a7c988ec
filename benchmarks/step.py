"""Whole training steps (forward, backward, AdamW), and AdamW alone, against eager as shipped."""

import argparse
import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

import fulmen
from measure import console, interleaved, ms, save, table, timed

TOKENS = 128


def pythia() -> nn.Module:
    """Of the sizes of pythia-14m."""
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            hidden_size=128, num_hidden_layers=6, num_attention_heads=4, intermediate_size=512,
            vocab_size=50304, use_cache=False,
        )
    )  # fmt: skip


def llama() -> nn.Module:
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=512, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=8,
            intermediate_size=1376, vocab_size=4096, use_cache=False,
        )
    )  # fmt: skip


MODELS = {"pythia-14m": (pythia, 50304), "Llama, 4 layers of 512": (llama, 4096)}


def training_step(model: nn.Module, tokens: torch.Tensor, **options: Any) -> Callable[[], Any]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, **options)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        logits = model(tokens).logits
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def update_only(count: int, **options: Any) -> Callable[[], Any]:
    parameters = [nn.Parameter(torch.randn(512, 512)) for _ in range(count)]
    for p in parameters:
        p.grad = torch.randn_like(p)
    return torch.optim.AdamW(parameters, lr=1e-4, **options).step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--torch-compile", action="store_true", help="time torch.compile too")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    result = table("A training step (ms; relative to eager)", "program", "of", "min", "median", "x")

    def compare(program: str, calls: dict[str, Callable[[], Any]]) -> None:
        first = {name: timed(call)[0] for name, call in calls.items()}
        for call in calls.values():
            call(), call()
        timings = interleaved(calls, rounds=args.rounds)
        for name, t in timings.items():
            ratio = t.minimum / timings["eager"].minimum
            result.add_row(program, name, ms(t.minimum), ms(t.median), f"{ratio:.2f}")
            rows.append(
                {
                    "program": program,
                    "of": name,
                    "min_s": t.minimum,
                    "median_s": t.median,
                    "first_call_s": first[name],
                }
            )

    for name, (make, vocabulary) in MODELS.items():
        torch.manual_seed(0)
        model, tokens = make(), torch.randint(0, vocabulary, (1, TOKENS))
        calls = {
            "eager": training_step(copy.deepcopy(model), tokens),
            "eager, fused=True": training_step(copy.deepcopy(model), tokens, fused=True),
            "Fulmen": fulmen.jit(training_step(copy.deepcopy(model), tokens), fullgraph=True),
        }
        if args.torch_compile:
            calls["torch.compile"] = torch.compile(training_step(copy.deepcopy(model), tokens))
        compare(name, calls)
    compare(
        "AdamW alone, 21 M parameters",
        {
            "eager": update_only(80),
            "eager, fused=True": update_only(80, fused=True),
            "Fulmen": fulmen.jit(update_only(80), fullgraph=True),
        },
    )
    console.print(result)
    save("step", rows)


if __name__ == "__main__":
    main()
