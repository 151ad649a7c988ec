"""fulmen.interpret: the programs of this folder, and PyTorch code, on the Python of the build.

The other Pythons of the machine are tested by tools/interp_suite.py (`make test-interp`).
"""

import importlib
import sys
import threading
from pathlib import Path

import pytest
import torch

import fulmen

FOLDER = Path(__file__).parent


sys.path[:0] = [str(FOLDER), str(FOLDER / "programs")]
differential = importlib.import_module("differential")
programs = importlib.import_module("registry").programs()
del sys.path[:2]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("program", programs, ids=[p.__name__ for p in programs])
def test_program(program):
    assert differential.compare(fulmen.interpret, program) == ""


def test_no_function():
    with pytest.raises(TypeError, match=r"interpret\(\): got no function to call"):
        fulmen.interpret()


def test_no_frame_of_ours_in_tracebacks():
    def fails():
        raise ValueError("mine")

    with pytest.raises(ValueError) as caught:
        fulmen.interpret(fails)
    assert [entry.name for entry in caught.traceback] == [
        "test_no_frame_of_ours_in_tracebacks",
        "fails",
    ]


def test_module_forward_and_backward():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Dropout(0.0), torch.nn.Linear(8, 2)
    )
    x = torch.randn(3, 4)
    expected = model(x)
    result = fulmen.interpret(model, x)
    assert torch.equal(result, expected)
    result.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_hooks_of_modules_run():
    seen = []
    model = torch.nn.Linear(2, 2)
    model.register_forward_pre_hook(lambda m, args: seen.append("before"))
    model.register_forward_hook(lambda m, args, out: seen.append("after"))
    fulmen.interpret(model, torch.ones(2))
    assert seen == ["before", "after"]


def test_threads_interpret_at_once():
    def work(n):
        return sum(i * i for i in range(n)), [str(i) for i in range(n)][-1]

    results, errors = {}, []

    def run(n):
        try:
            for _ in range(20):
                results[n] = fulmen.interpret(work, n)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in (300, 301, 302, 303)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert results == {n: work(n) for n in (300, 301, 302, 303)}


def test_nested_interpretation():
    assert fulmen.interpret(lambda: fulmen.interpret(lambda x: x + 1, 1) + 1) == 3


def test_inside_torch_compile():
    def f(x):
        return x * 2

    compiled = torch.compile(f, backend="eager")
    x = torch.ones(2)
    assert torch.equal(fulmen.interpret(compiled, x), f(x))
    assert torch.equal(compiled(x), f(x))
