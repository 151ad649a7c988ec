"""Inference of small transformers: eager PyTorch against Fulmen."""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, LlamaConfig, LlamaModel

import fulmen
from measure import console, interleaved, ms, save, table, timed

TOKENS = 128


def gpt2() -> nn.Module:
    return GPT2Model(
        GPT2Config(
            bos_token_id=0,
            eos_token_id=0,
            n_layer=4,
            n_embd=256,
            n_head=8,
            vocab_size=8192,
            use_cache=False,
        )
    )


def bert() -> nn.Module:
    return BertModel(
        BertConfig(
            num_hidden_layers=4, hidden_size=256, num_attention_heads=8, intermediate_size=1024,
            vocab_size=8192,
        )
    )  # fmt: skip


def llama() -> nn.Module:
    return LlamaModel(
        LlamaConfig(
            num_hidden_layers=4, hidden_size=256, num_attention_heads=8, num_key_value_heads=4,
            intermediate_size=704, vocab_size=8192, use_cache=False,
        )
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch-compile", action="store_true", help="time torch.compile too")
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    compilers: dict[str, Callable] = {"eager": lambda m: m, "Fulmen": fulmen.jit}
    if args.torch_compile:
        compilers["torch.compile"] = torch.compile

    rows: list[dict[str, Any]] = []
    result = table(
        f"Inference, 4 layers of width 256, {TOKENS} tokens (ms)",
        "model", "", "first call", "minimum", "median", "of eager", "largest difference",
    )  # fmt: skip
    for name, make in {"GPT-2": gpt2, "BERT": bert, "Llama": llama}.items():
        torch.manual_seed(0)
        model = make().eval()
        tokens = torch.randint(0, 8192, (1, TOKENS))
        with console.status(f"{name} …"), torch.no_grad():
            ready, first, output = {}, {}, {}
            for compiler, compile_model in compilers.items():
                compiled = compile_model(model)
                ready[compiler] = lambda f=compiled, t=tokens: f(t)[0]
                first[compiler], output[compiler] = timed(ready[compiler])
            timings = interleaved(ready, rounds=args.rounds)
        for compiler, timing in timings.items():
            ratio = timing.minimum / timings["eager"].minimum
            difference = (output[compiler] - output["eager"]).abs().max().item()
            result.add_row(
                name if compiler == "eager" else "", compiler, ms(first[compiler]),
                ms(timing.minimum), ms(timing.median), f"{ratio:.2f}", f"{difference:.1e}",
                end_section=compiler == list(compilers)[-1],
            )  # fmt: skip
            rows.append(
                {
                    "model": name,
                    "compiler": compiler,
                    "first_s": first[compiler],
                    "min_s": timing.minimum,
                    "median_s": timing.median,
                    "max_difference": difference,
                }
            )
    console.print(result)
    save("models", rows)


if __name__ == "__main__":
    main()
