"""Peak memory of a training step: eager PyTorch, Fulmen, and both with recomputation."""

import argparse
import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

import fulmen
import zoo
from measure import console, interleaved, ms, save, table

CHECKPOINTS = {"use_reentrant": False}


MODELS = {"gpt2": zoo.gpt2, "bert": zoo.bert, "llama": partial(zoo.llama, key_value_heads=4)}


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


def module_steps(model: nn.Module, ids: torch.Tensor, budget: float) -> dict[str, Any]:
    """Forward and backward by eager's loop."""
    jitted = {
        "Fulmen": fulmen.jit(model),
        "Fulmen, memory_budget=1": fulmen.jit(model, memory_budget=1),
        f"Fulmen, memory_budget={budget}": fulmen.jit(model, memory_budget=budget),
    }
    steps = {"eager": training_step(model, model, ids)}
    steps |= {name: training_step(f, model, ids) for name, f in jitted.items()}
    steps["eager, checkpoints"] = training_step(model, model, ids, checkpoints=True)
    jitted["Fulmen, checkpoints"] = with_checkpoints = fulmen.jit(model)
    steps["Fulmen, checkpoints"] = training_step(with_checkpoints, model, ids, checkpoints=True)
    return {name: (step, jitted.get(name)) for name, step in steps.items()}


def whole_steps(model: nn.Module, ids: torch.Tensor, budget: float) -> dict[str, Any]:
    """Forward, backward and AdamW, which Fulmen compiles as one program."""

    def step() -> Callable[[], object]:
        return zoo.training_step(copy.deepcopy(model), ids)

    jitted = {
        "Fulmen": fulmen.jit(step()),
        f"Fulmen, memory_budget={budget}": fulmen.jit(step(), memory_budget=budget),
    }
    return {"eager": (step(), None)} | {name: (f, f) for name, f in jitted.items()}


KINDS = {"forward and backward": module_steps, "whole step": whole_steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--budget", type=float, default=0.4, help="that of the recomputing program")
    args = parser.parse_args()

    rows: list[dict[str, Any]] = []
    for kind, make_steps in KINDS.items():
        result = table(
            f"{kind.capitalize()}, 4 layers of width 512, {args.batch} x {args.tokens} tokens",
            "model", "", "peak (MiB)", "of eager's", "time (ms)", "of eager's", "predicted (MiB)",
        )  # fmt: skip
        for name_of_model, make in MODELS.items():
            torch.manual_seed(0)
            model = make().train()
            ids = zoo.tokens(model, count=args.tokens, batch=args.batch)
            steps = make_steps(model, ids, args.budget)
            for step, _ in steps.values():
                step()
                step()
            peaks = {name: peak_bytes(step) for name, (step, _) in steps.items()}
            times = interleaved({n: step for n, (step, _) in steps.items()}, rounds=args.rounds)
            for name, (_, compiled) in steps.items():
                row = {
                    "kind": kind,
                    "model": name_of_model,
                    "variant": name,
                    "peak_bytes": peaks[name],
                    "peak_ratio": peaks[name] / peaks["eager"],
                    "step_min_s": times[name].minimum,
                    "step_median_s": times[name].median,
                    "time_ratio": times[name].minimum / times["eager"].minimum,
                }
                if compiled:
                    row["predicted_bytes"] = fulmen.examine.memory(compiled).peak
                rows.append(row)
                predicted = f"{row['predicted_bytes'] / 2**20:.1f}" if compiled else ""
                result.add_row(
                    name_of_model, name, f"{peaks[name] / 2**20:.1f}", f"{row['peak_ratio']:.2f}",
                    ms(times[name].minimum), f"{row['time_ratio']:.2f}", predicted,
                )  # fmt: skip
        console.print(result)
    save("memory", rows)


if __name__ == "__main__":
    main()
