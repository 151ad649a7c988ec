"""200 steps of a small GPT on English text: the compiled step follows eager's loss curve."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from pydoc_data import topics

import torch
from torch import nn
from torch.nn import functional as F

import fulmen

CONTEXT, BATCH, STEPS = 64, 12, 200
TEXT = "\n".join(topics.topics[name] for name in sorted(topics.topics))
LETTERS = sorted(set(TEXT))
DATA = torch.tensor([LETTERS.index(letter) for letter in TEXT[:200_000]])

Step = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attention, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        heads = self.attention(self.norms[0](x)).view(batch, length, 3, 4, width // 4)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norms[1](x))


class GPT(nn.Module):
    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.letters, self.places = nn.Embedding(len(LETTERS), width), nn.Embedding(CONTEXT, width)
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, len(LETTERS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.letters(x) + self.places(torch.arange(x.shape[1]))
        return self.head(self.norm(self.blocks(x)))


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    starts = torch.randint(0, len(DATA) - CONTEXT - 1, (BATCH,), generator=generator)
    rows = torch.stack([DATA[s : s + CONTEXT + 1] for s in starts.tolist()])
    return rows[:, :-1], rows[:, 1:]


def training(model: nn.Module) -> tuple[Step, torch.optim.Optimizer]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    return step, optimizer


def curve(step: Step, first: int, last: int) -> list[float]:
    return [float(step(*batch(i))) for i in range(first, last)]


def test_loss_curve() -> None:
    torch.manual_seed(0)
    model = GPT()
    start = copy.deepcopy(model.state_dict())
    expected = curve(training(model)[0], 0, STEPS)

    whole = GPT()
    whole.load_state_dict(start)
    step, optimizer = training(whole)
    compiled = fulmen.jit(step, fullgraph=True)
    losses = curve(compiled, 0, STEPS // 2)
    saved = io.BytesIO()
    torch.save((whole.state_dict(), optimizer.state_dict()), saved)
    losses += curve(compiled, STEPS // 2, STEPS)
    assert losses == expected
    assert losses[0] > math.log(len(LETTERS)) - 1 and sum(losses[-10:]) / 10 < 2.5

    resumed = GPT()
    step, optimizer = training(resumed)
    saved.seek(0)
    weights, moments = torch.load(saved)
    resumed.load_state_dict(weights)
    optimizer.load_state_dict(moments)
    assert curve(fulmen.jit(step), STEPS // 2, STEPS) == expected[STEPS // 2 :]


def test_loss_curve_of_a_compiled_model() -> None:
    torch.manual_seed(0)
    model = GPT()
    start = copy.deepcopy(model.state_dict())
    expected = curve(training(model)[0], 0, 50)
    model.load_state_dict(start)
    assert curve(training(fulmen.jit(model))[0], 0, 50) == expected
