"""Time from a given FX graph to a Program, for GPT-2 of growing depth: it must grow linearly."""

import argparse
from typing import Any

import torch
from transformers import GPT2Config, GPT2Model

import fulmen.dynamo
from measure import Timing, console, interleaved, ms, save, table, timed


def capture(layers: int) -> tuple[torch.fx.GraphModule, list[Any]]:
    """The FX graph that Dynamo hands to a backend."""
    config = GPT2Config(
        bos_token_id=0,
        eos_token_id=0,
        n_layer=layers,
        n_embd=64,
        n_head=4,
        n_positions=64,
        vocab_size=256,
        use_cache=False,
    )
    model = GPT2Model(config).eval()
    captured: list[tuple[torch.fx.GraphModule, list[Any]]] = []

    def record(graph: torch.fx.GraphModule, inputs: list[Any]):
        captured.append((graph, inputs))
        return graph.forward

    torch._dynamo.reset()
    with torch.no_grad():
        torch.compile(model, backend=record, fullgraph=True)(torch.zeros(1, 16, dtype=torch.long))
    assert len(captured) == 1
    return captured[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, nargs="+", default=[12, 24, 48, 96])
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()

    with console.status("Dynamo starts …"):
        capture(1)
    rows: list[dict[str, Any]] = []
    result = table(
        "GPT-2, FX graph to Program (ms)",
        "layers", "FX nodes", "Dynamo", "minimum", "median", "a layer", "against the first",
    )  # fmt: skip
    for layers in args.layers:
        with console.status(f"{layers} layers: Dynamo captures …"):
            capture_time, (graph, inputs) = timed(lambda n=layers: capture(n))
        with console.status(f"{layers} layers: Fulmen compiles …"), torch.no_grad():
            timing: Timing = interleaved(
                {"compile": lambda g=graph, i=inputs: fulmen.dynamo.compile_fx_graph(g, i)},
                rounds=args.rounds,
            )["compile"]
        nodes = len(graph.graph.nodes)
        rows.append(
            {
                "layers": layers,
                "fx_nodes": nodes,
                "dynamo_s": capture_time,
                "compile_min_s": timing.minimum,
                "compile_median_s": timing.median,
            }
        )
        per_layer = timing.minimum / layers
        first = rows[0]["compile_min_s"] / rows[0]["layers"]
        result.add_row(
            str(layers), str(nodes), ms(capture_time), ms(timing.minimum), ms(timing.median),
            ms(per_layer), f"{per_layer / first:.2f}",
        )  # fmt: skip
    console.print(result)
    save("compile_time", rows)


if __name__ == "__main__":
    main()
