"""Peak memory of a training step: eager PyTorch, Fulmen, and both with recomputation."""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

import fulmen
from measure import console, interleaved, ms, save, table
from zoo import VOCABULARY, bert, gpt2, llama

CHECKPOINTS = {"use_reentrant": False}


MODELS = {"gpt2": gpt2, "bert": bert, "llama": partial(llama, key_value_heads=4)}


def peak_bytes(call: Callable[[], object]) -> int:
    """The most that PyTorch's allocator has handed out during a call, above what it had before."""
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=cpu, profile_memory=True) as profile:
        call()
    events = profile.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    now = peak = 0
    for _, change in changes:
        now += change
        peak = max(peak, now)
    return peak


def training_step(
    f: Callable[..., Any], model: nn.Module, ids: torch.Tensor, checkpoints: bool = False
) -> Callable[[], None]:
    """A step that begins and ends without gradients, and keeps its results until then."""

    def step() -> None:
        torch.manual_seed(0)
        if checkpoints:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=CHECKPOINTS)
        else:
            model.gradient_checkpointing_disable()
        result = f(input_ids=ids, labels=ids)
        result.loss.backward()
        model.zero_grad()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--budget", type=float, default=0.4, help="that of the recomputing program")
    args = parser.parse_args()

    rows: list[dict[str, Any]] = []
    result = table(
        f"A training step, 4 layers of width 512, {args.batch} x {args.tokens} tokens",
        "model", "", "peak (MiB)", "of eager's", "step (ms)", "of eager's", "predicted (MiB)",
    )  # fmt: skip
    for name_of_model, make in MODELS.items():
        torch.manual_seed(0)
        model = make().train()
        ids = torch.randint(0, VOCABULARY, (args.batch, args.tokens))
        budget = f"Fulmen, memory_budget={args.budget}"
        jitted = {
            "Fulmen": fulmen.jit(model),
            "Fulmen, memory_budget=1": fulmen.jit(model, memory_budget=1),
            budget: fulmen.jit(model, memory_budget=args.budget),
        }
        steps = {"eager": training_step(model, model, ids)}
        steps |= {name: training_step(f, model, ids) for name, f in jitted.items()}
        steps["eager, checkpoints"] = training_step(model, model, ids, checkpoints=True)
        with_checkpoints = fulmen.jit(model)
        steps["Fulmen, checkpoints"] = training_step(with_checkpoints, model, ids, checkpoints=True)
        jitted["Fulmen, checkpoints"] = with_checkpoints
        for step in steps.values():
            step()
        peaks = {name: peak_bytes(step) for name, step in steps.items()}
        times = interleaved(steps, rounds=args.rounds)
        for name in steps:
            row = {
                "model": name_of_model,
                "variant": name,
                "peak_bytes": peaks[name],
                "peak_ratio": peaks[name] / peaks["eager"],
                "step_min_s": times[name].minimum,
                "step_median_s": times[name].median,
                "time_ratio": times[name].minimum / times["eager"].minimum,
            }
            if name in jitted:
                row["predicted_bytes"] = fulmen.examine.memory(jitted[name]).peak
            rows.append(row)
            predicted = f"{row['predicted_bytes'] / 2**20:.1f}" if name in jitted else ""
            result.add_row(
                name_of_model, name, f"{peaks[name] / 2**20:.1f}", f"{row['peak_ratio']:.2f}",
                ms(times[name].minimum), f"{row['time_ratio']:.2f}", predicted,
            )  # fmt: skip
    console.print(result)
    save("memory", rows)


if __name__ == "__main__":
    main()
