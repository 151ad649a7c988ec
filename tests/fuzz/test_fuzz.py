"""Random programs, forward and backward, give what eager gives; more of them: `make fuzz`."""

from __future__ import annotations

import collections
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fuzz_regions import generate_region
from fuzz_whole import check_whole, check_whole_kernels
from mended import MENDED, MENDED_KERNELS, MENDED_STEPS

import fuzz_check
from fuzz_check import Failure, check, check_kernels
from fuzz_generate import generate
from fuzz_program import Program
from fuzz_reduce import reduce, script

PARTS = 4
PROGRAMS_OF_A_PART = 75


@pytest.mark.parametrize("part", range(PARTS))
def test_programs_are_as_in_eager(part: int) -> None:
    for seed in range(part * PROGRAMS_OF_A_PART, (part + 1) * PROGRAMS_OF_A_PART):
        program = generate(seed)
        failure = check(program)
        if failure is not None:
            small = reduce(program, failure)
            pytest.fail(script(small, check(small) or failure, f"seed {seed}"))


@pytest.mark.parametrize("part", range(2))
def test_whole_steps_have_eagers_gradients(part: int) -> None:
    for seed in range(5000 + part * PROGRAMS_OF_A_PART, 5000 + (part + 1) * PROGRAMS_OF_A_PART):
        program = generate(seed)
        failure = check_whole(program)
        if failure is not None:
            small = reduce(program, failure, check_whole)
            pytest.fail(script(small, check_whole(small) or failure, f"seed {seed}"))


WITH_KERNELS = {
    "programs": (generate, check_kernels, range(9000, 9080)),
    "steps": (generate, check_whole_kernels, range(9500, 9560)),
    "regions": (generate_region, check_kernels, range(9000, 9060)),
}


@pytest.mark.parametrize("kind", WITH_KERNELS)
def test_kernels_are_as_near_as_eager(kind: str) -> None:
    make, compare, seeds = WITH_KERNELS[kind]
    count: collections.Counter[str] = collections.Counter()
    for seed in seeds:
        program = make(seed)
        failure = compare(program, count)
        if failure is not None:
            small = reduce(program, failure, compare)
            pytest.fail(script(small, compare(small) or failure, f"seed {seed}"))
    assert count["kernels"] > len(seeds) // 4, count


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_more_than_rounding_is_found(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program(
        inputs=(f"a0 = torch.randn((50,), generator=g).to(torch.{dtype})",),
        args=("a0",),
        body=("v1 = a0.exp()", "v2 = v1.sum()", "v3 = (v1 - 1).sin()"),
        returns=("v2", "v3"),
    )
    assert check_kernels(program) is None
    load, wrong = fuzz_check.load, []

    def faulty(text: str, name: str):  # type: ignore[no-untyped-def]
        if wrong:
            return load(text, name)
        wrong.append(text.replace("a0.exp()", "a0.exp() * (1 + 16 * torch.finfo(a0.dtype).eps)"))
        made = iter([load(text, name)[0], load(wrong[0], name)[0]])
        return lambda: next(made)(), load(text, name)[1]

    monkeypatch.setattr(fuzz_check, "load", faulty)
    failure = check_kernels(program)
    assert failure is not None and failure.kind == "value"


def test_generation_depends_on_the_seed_alone() -> None:
    assert generate(17) == generate(17)
    assert generate(17) != generate(18)
    assert generate_region(17) == generate_region(17)
    assert generate_region(17) != generate_region(18)


def test_programs_exercise_what_they_should() -> None:
    text = "\n".join(generate(seed).text() for seed in range(200))
    parts = (
        "no_grad", "nn.Parameter", "F.dropout", ".copy_(", ".view(", "requires_grad_", ".expand(",
        "m.p2 = m.p0", ".detach()", "bfloat16", "float32", ".chunk(",
    )  # fmt: skip
    for part in parts:
        assert part in text, part


def test_regions_exercise_what_they_should() -> None:
    text = "\n".join(generate_region(seed).text() for seed in range(300))
    parts = (
        "float16", "bfloat16", "int8", "bool", ".transpose(-1, -2)", "[..., ::2]", ".unfold(",
        ".expand(", "float('nan')", "softmax", "cumsum", "torch.where", "F.pad", "torch.cat",
        "gather", "layer_norm", "requires_grad_", "argmax", ".add_(", "one_hot", "()",
    )  # fmt: skip
    for part in parts:
        assert part in text, part


WRONG = Program(
    inputs=(
        "a0 = torch.randn((2, 3), dtype=torch.float64, generator=g).requires_grad_()",
        "a1 = torch.randn((2, 3), dtype=torch.float64, generator=g)",
    ),
    args=("a0", "a1"),
    body=("v1 = a1.sin()", "v2 = a0 * 3", "v3 = v2.exp()", "v4 = v3 + v1", "v5 = v4.sum()"),
    returns=("v5", "v1"),
)


def test_a_wrong_gradient_is_found_and_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eager's exp stands for a compiled program that forgets its gradient."""
    load = fuzz_check.load

    def faulty(text: str, name: str):  # type: ignore[no-untyped-def]
        right = load(text, name)[0]
        wrong = load(text.replace(".exp()", ".detach().exp().requires_grad_()"), name)[0]
        made = iter([right, wrong])
        return lambda: next(made)(), load(text, name)[1]

    monkeypatch.setattr(fuzz_check, "load", faulty)
    failure = check(WRONG)
    assert isinstance(failure, Failure)
    small = reduce(WRONG, failure)
    assert len(small.body) <= 2 and "exp" in "".join(small.body)
    assert len(small.args) == 1
    compile(script(small, failure, "seed 0"), "script", "exec")


@pytest.mark.parametrize("name", MENDED)
def test_mended_programs_are_as_in_eager(name: str) -> None:
    failure = check(MENDED[name])
    assert failure is None, failure


@pytest.mark.parametrize("name", MENDED_KERNELS)
def test_mended_kernels_are_as_near_as_eager(name: str) -> None:
    failure = check_kernels(MENDED_KERNELS[name])
    assert failure is None, failure


@pytest.mark.parametrize("name", MENDED_STEPS)
def test_mended_steps_have_eagers_gradients(name: str) -> None:
    failure = check_whole(MENDED_STEPS[name])
    assert failure is None, failure
