"""What a whole step keeps for its backward, and computes again: the numbers stay eager's."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import fulmen

BUDGETS = [None, 1, 0.5, 0.2, 0]
Step = Callable[[nn.Module, torch.optim.Optimizer, torch.Tensor], torch.Tensor]


class Block(nn.Module):
    def __init__(self, width: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm, self.drop = norm(width), nn.Dropout(0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.drop(self.norm(self.down(F.gelu(self.up(x)))))


class Net(nn.Module):
    def __init__(self, checkpoints: bool = False) -> None:
        super().__init__()
        # In a checkpoint eager would count BatchNorm's statistics twice.
        norm = nn.LayerNorm if checkpoints else nn.BatchNorm1d
        self.blocks = nn.ModuleList(Block(16, norm) for _ in range(4))
        self.checkpoints = checkpoints

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.checkpoints else block(x)
        return x


def plain(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor) -> torch.Tensor:
    optimizer.zero_grad()
    loss = model(x).square().mean()
    loss.backward()
    optimizer.step()
    return loss.detach()


def accumulating(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor
) -> torch.Tensor:
    """Two backwards, the second of which follows the first one's gradients."""
    total = torch.zeros(())
    for part in x.chunk(2):
        loss = model(part).square().mean()
        loss.backward()
        total = total + loss.detach()
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
    optimizer.zero_grad()
    return total


def results_kept(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Values of the forward that the caller gets as well."""
    hidden = torch.tanh(model(x))
    loss = torch.exp(hidden).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return hidden.detach(), loss.detach(), hidden.detach().t() * 2


def run(model: nn.Module, step: Step, budget: float | None, compiled: bool) -> list[object]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def call(x: torch.Tensor) -> object:
        return step(model, optimizer, x)

    f = fulmen.jit(call, memory_budget=budget, fullgraph=True) if compiled else call
    torch.manual_seed(3)
    results: list[object] = []
    for _ in range(3):
        results.append(f(torch.randn(8, 16)))
    results.append(torch.rand(3))  # the generator is where eager leaves it
    results += [t.clone() for t in model.state_dict().values()]
    results += [p.grad for p in model.parameters()]
    return results


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("step", [plain, accumulating, results_kept])
@pytest.mark.parametrize("checkpoints", [False, True])
def test_numbers_are_eagers(step: Step, budget: float | None, checkpoints: bool) -> None:
    torch.manual_seed(0)
    model = Net(checkpoints)
    expected = run(copy.deepcopy(model), step, budget, compiled=False)
    got = run(model, step, budget, compiled=True)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def peak(step: Callable[[], object]) -> int:
    step()
    step()
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=cpu, profile_memory=True) as profile:
        step()
    changes = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for change in sorted(changes, key=lambda e: e.start_ns()):
        now += change.nbytes()
        most = max(most, now)
    return most


def chain(checkpoints: bool, budget: float | None) -> Callable[[], torch.Tensor]:
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(256, 256) / 16) for _ in range(16)]
    optimizer = torch.optim.SGD(weights, lr=1e-3)
    x = torch.randn(1024, 256)

    def two(x: torch.Tensor, v: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        hidden = x @ v
        return torch.tanh((torch.relu(hidden) * hidden) @ w)

    def step() -> torch.Tensor:
        y = x
        for v, w in zip(weights[::2], weights[1::2], strict=True):
            y = checkpoint(two, y, v, w, use_reentrant=False) if checkpoints else two(y, v, w)
        loss = y.square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return fulmen.jit(step, memory_budget=budget, fullgraph=True, executors=["products", "fusion"])


def test_a_budget_and_checkpoints_lower_the_peak() -> None:
    whole = peak(chain(False, 1))
    assert peak(chain(False, None)) < 0.85 * whole
    assert peak(chain(False, 0.2)) < 0.5 * whole
    assert peak(chain(True, 1)) < 0.6 * whole


def test_the_peak_is_predicted() -> None:
    for budget in (1, 0.2):
        step = chain(False, budget)
        assert fulmen.examine.memory(call_once(step)).peak == pytest.approx(peak(step), rel=0.1)


def call_once(step: Callable[[], object]) -> Callable[[], object]:
    step()
    return step
