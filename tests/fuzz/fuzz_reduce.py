"""Makes a failing program small: it drops statements, arguments and results, replaces statements by
simpler ones and sizes by smaller ones, as long as the program fails in the same way.
"""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Callable, Iterator

from fuzz_check import SEEDS, Failure
from fuzz_check import check as check_call
from fuzz_program import Program

Fails = Callable[[Program], bool]
MAX_TRIALS = 600
_ASSIGNED = re.compile(r"^(\w+) = (.+)$", re.S)
_NAME = re.compile(r"\b(?:self\.)?[avpb]\d+\b(?:\[\d\])?")


def reduce(
    program: Program,
    failure: Failure,
    check: Callable[[Program], Failure | None] = check_call,
) -> Program:
    """A small program that fails with the same kind of difference."""
    trials = 0

    def fails(candidate: Program) -> bool:
        nonlocal trials
        trials += 1
        if trials > MAX_TRIALS:
            return False
        try:
            found = check(candidate)
        except Exception:  # such as a name that is gone
            return False
        return found is not None and found.kind == failure.kind

    program = _without_runs(program, fails)
    changed = True
    while changed and trials <= MAX_TRIALS:
        changed = False
        for candidate in _candidates(program):
            if fails(candidate):
                program, changed = candidate, True
                break
    return program


def _without_runs(program: Program, fails: Fails) -> Program:
    """Without runs of statements, long ones first."""
    length = len(program.body) // 2
    while length:
        start = 0
        while start < len(program.body):
            body = program.body[:start] + program.body[start + length :]
            candidate = dataclasses.replace(program, body=body)
            if fails(candidate):
                program = candidate
            else:
                start += length
        length //= 2
    return program


def _candidates(program: Program) -> Iterator[Program]:
    """Programs that are one step simpler, the largest steps first."""
    for field in ("body", "returns", "inputs", "args", "state"):
        items = getattr(program, field) or ()
        for i in range(len(items)):
            if field == "returns" and len(items) == 1:
                continue
            rest = items[:i] + items[i + 1 :]
            if field == "inputs":  # an argument goes with what makes it
                name = items[i].split(" ")[0]
                args = tuple(a for a in program.args if a != name)
                yield dataclasses.replace(program, inputs=rest, args=args)
            yield dataclasses.replace(program, **{field: rest})
    for i, statement in enumerate(program.body):
        for simpler in _simpler(statement):
            body = program.body[:i] + simpler + program.body[i + 1 :]
            yield dataclasses.replace(program, body=body)
    for i, statement in enumerate(program.body):
        assigned = _ASSIGNED.match(statement)
        if assigned and _NAME.fullmatch(assigned.group(2)):
            old, new = re.compile(rf"\b{assigned.group(1)}\b"), assigned.group(2)
            rest = tuple(old.sub(new, x) for x in program.body[i + 1 :])
            returns = tuple(dict.fromkeys(old.sub(new, x) for x in program.returns))
            yield dataclasses.replace(program, body=program.body[:i] + rest, returns=returns)
        elif assigned and (operands := _NAME.findall(assigned.group(2))):
            returns = tuple(operands[0] if r == assigned.group(1) else r for r in program.returns)
            if returns != program.returns:
                yield dataclasses.replace(program, returns=tuple(dict.fromkeys(returns)))
    for i, line in enumerate(program.inputs):
        for suffix in (".requires_grad_()", ".t()", ".view(-1)", "[:]", "[::2]", ".detach()"):
            if line.endswith(suffix):
                shorter = (*program.inputs[:i], line.removesuffix(suffix), *program.inputs[i + 1 :])
                yield dataclasses.replace(program, inputs=shorter)
    if program.cache != "constant values":
        yield dataclasses.replace(program, cache="constant values")
    yield from _with_smaller_sizes(program)


def _simpler(statement: str) -> Iterator[tuple[str, ...]]:
    head, *inner = statement.split("\n")
    if inner:
        yield tuple(textwrap.dedent("\n".join(inner)).split("\n"))
        for i in range(len(inner)):
            if len(inner) > 1:
                yield ("\n".join([head, *inner[:i], *inner[i + 1 :]]),)
        return
    assigned = _ASSIGNED.match(statement)
    if not assigned:
        return
    target, value = assigned.groups()
    operands = dict.fromkeys(_NAME.findall(value))
    for name in operands:
        if value != name:
            yield (f"{target} = {name}",)
    for name in operands:
        if value not in (name, f"{name} * 2", f"{name}.sin()"):
            yield (f"{target} = {name} * 2",)


def _with_smaller_sizes(program: Program) -> Iterator[Program]:
    """Every occurrence of a size gets smaller, so that shapes go on fitting."""
    for line in program.inputs:
        found = re.search(r"randn\(\(([\d, ]+)\)", line)
        for size in dict.fromkeys(re.findall(r"\d+", found.group(1))) if found else ():
            if int(size) > 1:
                pattern = re.compile(rf"(?<![\w.]){size}(?![\w.])")
                smaller = str(int(size) - 1)
                yield dataclasses.replace(
                    program,
                    inputs=tuple(pattern.sub(smaller, x) for x in program.inputs),
                    body=tuple(pattern.sub(smaller, x) for x in program.body),
                )
        for shape, shorter in (("(2, 2, 3)", "(2, 3)"), ("(2, 3)", "(3,)"), ("(3, 3)", "(3,)")):
            if shape in line:
                inputs = tuple(x.replace(shape, shorter) for x in program.inputs)
                yield dataclasses.replace(program, inputs=inputs)


def script(program: Program, failure: Failure, title: str) -> str:
    """The program as a file that runs alone."""
    shown = failure.detail.replace("\n", "\n# ")
    return f'''# {title}: {failure.kind}: {shown}
{program.text()}

import fulmen  # noqa: E402


def show(function):
    for seed in {SEEDS}:
        scope, args = make_inputs(seed, function)
        torch.manual_seed(3)
        result = function(*args)
        print("result", result)
        differentiable = [t for t in result if isinstance(t, torch.Tensor) and t.requires_grad]
        if differentiable:
            sum(t.sum().double() for t in differentiable).backward()
        for name, t in scope.items():
            if isinstance(t, torch.Tensor):
                print(name, t, "gradient", t.grad if t.is_leaf else "of no leaf")


print("eager")
show(make_function())
print("compiled")
show(fulmen.jit(make_function(), cache="{program.cache}"))
'''
