"""What the first call costs beside the work: first call minus a steady call, each in a process
of its own, imports excluded; and what a second shape costs."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from peers import available

from measure import console, save, table

SHAPES = (128, 96)


def litgpt_llama(layers: int) -> Any:
    from litgpt import GPT, Config

    return GPT(
        Config(
            block_size=256, vocab_size=512, padded_vocab_size=512, n_layer=layers, n_head=4,
            n_embd=32, n_query_groups=4, norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP",
            intermediate_size=86, rotary_percentage=1.0, bias=False, parallel_residual=False,
        )
    )  # fmt: skip


def in_process(program: str, peer: str) -> dict[str, float]:
    """Runs in a process of its own; the names are those of PROGRAMS and peers."""
    import torch
    from peers import COMPILERS

    from measure import timed
    from zoo import llama, next_token_loss, pythia, training_step

    torch.manual_seed(0)
    compile = COMPILERS[peer]
    calls: list[Callable[[], Any]] = []

    def forward_backward(model: Any, ids: torch.Tensor) -> None:
        out = model(ids)
        loss = out.float().logsumexp(-1).mean() if torch.is_tensor(out) else out.logits.mean()
        loss.backward()

    match program:
        case "pythia-14m, inference":
            model = pythia().eval()
            compiled = compile(model)
            for n in SHAPES:
                ids = torch.randint(0, 50304, (1, n))
                calls.append(torch.no_grad()(lambda i=ids: compiled(i).logits))
        case "pythia-14m, whole training step":
            model = pythia()
            for n in SHAPES[:1]:
                calls.append(compile(training_step(model, torch.randint(0, 50304, (1, n)))))
        case "Llama, 4 layers, training":
            model = llama()
            compiled = compile(model)
            for n in SHAPES:
                ids = torch.randint(0, 4096, (1, n))

                def train(i: torch.Tensor = ids) -> None:
                    next_token_loss(compiled, i).backward()

                calls.append(train)
        case _:
            model = litgpt_llama(int(program.split()[-2]))
            compiled = compile(model)
            for n in SHAPES:
                ids = torch.randint(0, 512, (1, n))
                calls.append(lambda i=ids: forward_backward(compiled, i))
    result = {}
    for shape, call in zip(SHAPES, calls, strict=False):
        first, _ = timed(call)
        steady = min(timed(call)[0] for _ in range(5))
        result[f"tokens_{shape}_s"] = first - steady
    return result


PROGRAMS = [
    "pythia-14m, inference", "pythia-14m, whole training step", "Llama, 4 layers, training",
    *(f"LitGPT, training, {n} layers" for n in (8, 16, 32)),
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", nargs="*", default=[p for p in available() if p != "eager"])
    parser.add_argument("--programs", nargs="*", help="parts of names", default=[""])
    parser.add_argument("--repeat", type=int, default=3, help="processes for each of ours")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(in_process(*args.child)))
        return
    shown = table(
        "First call minus a steady call, seconds, in a fresh process", "program", "",
        f"{SHAPES[0]} tokens", f"then {SHAPES[1]}",
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    for program in PROGRAMS:
        if not any(part in program for part in args.programs):
            continue
        for peer in args.peers:
            runs = []
            for _ in range(args.repeat if peer == "Fulmen" else 1):
                command = [sys.executable, __file__, "--child", program, peer]
                with console.status(f"{program}, {peer} …"):
                    done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode == 0:
                    runs.append(json.loads(done.stdout.splitlines()[-1]))
                else:
                    console.print(f"[dim]{program}, {peer}: {done.stderr.splitlines()[-1][:90]}[/]")
            if not runs:
                continue
            best = {key: min(r[key] for r in runs) for key in runs[0]}
            seconds = [f"{v:.3f}" for v in best.values()]
            shown.add_row(program, peer, *seconds, *[""] * (len(SHAPES) - len(seconds)))
            rows.append({"program": program, "of": peer, **best})
    console.print(shown)
    save("compile_time", rows)


if __name__ == "__main__":
    main()
