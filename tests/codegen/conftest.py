from __future__ import annotations

import pytest

from fulmen import _core, executors


@pytest.fixture(autouse=True)
def llvm() -> None:
    """Kernels need LLVM: requirements/test.txt has it."""
    problem = executors.llvm_problem()
    assert not problem, problem


@pytest.fixture
def isa(request: pytest.FixtureRequest):
    """Generates kernels for the instruction set of the parameter; an unknown one of this CPU's is
    reported as skipped."""
    _core.set_flag("isa", request.param)
    if request.param not in _core.instruction_sets():
        _core.set_flag("isa", "")
        pytest.skip(f"this CPU has no {request.param}")
    yield request.param
    _core.set_flag("isa", "")
