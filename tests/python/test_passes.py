"""The pass pipeline on programs with in-place operations and views: values, metadata, aliasing
among results and inputs, random state and gradients equal eager's."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fulmen import _core
from fulmen.trace import trace_call

NAMES = ["functionalize", "dce", "cse", "fold", "dce"]


def clones(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copies with the same strides, gradient history included when there is a gradient."""
    out = []
    for a in args:
        c = torch.empty_strided(a.shape, a.stride(), dtype=a.dtype)
        c.copy_(a.detach())
        if a.requires_grad:
            c.requires_grad_()
            c = c.view_as(c).mul(1) if not a.is_leaf else c
        out.append(c)
    return tuple(out)


def as_list(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


def compiled(fn: Callable[..., Any], args: tuple[Any, ...], names: list[str]) -> tuple[Any, Any]:
    trace, _, inputs = trace_call(fn, args, {})
    trace, _, _, notes = _core.run_passes(trace, names)
    claimed = _core.transform_for_execution(trace, _core.ClaimReport())
    dispatch = _core.Dispatch(lambda *a: pytest.fail("the guards refuse the traced inputs"))
    dispatch.add(_core.build_program(claimed), (), ())
    return trace, (lambda: as_list(dispatch(*inputs))), notes


def storages(tensors: list[torch.Tensor]) -> list[list[bool]]:
    pointers = [t.untyped_storage().data_ptr() for t in tensors]
    return [[p == q for q in pointers] for p in pointers]


def check(
    fn: Callable[..., Any], *args: torch.Tensor, functional: bool | None = True, grad: bool = False
) -> Any:
    expected_args, got_args = clones(args), clones(args)
    state = torch.get_rng_state()
    expected = as_list(fn(*expected_args))
    after = torch.get_rng_state()
    torch.set_rng_state(state)
    trace, run, notes = compiled(fn, got_args, NAMES)
    assert functional is None or trace.functional == functional, notes
    assert trace.functional != bool(notes)
    got = run()
    assert torch.equal(torch.get_rng_state(), after)
    everything = list(zip(expected + list(expected_args), got + list(got_args), strict=True))
    for e, g in everything:
        assert e.shape == g.shape and e.dtype == g.dtype and e.stride() == g.stride()
        assert e.requires_grad == g.requires_grad
        assert torch.equal(e, g) or (e.isnan() == g.isnan()).all()
    eager_side, our_side = zip(*everything, strict=True)
    assert storages(list(eager_side)) == storages(list(our_side))
    if grad:
        leaves, ours = (
            [a for a in expected_args if a.requires_grad],
            [a for a in got_args if a.requires_grad],
        )
        e = sum(t.sum() * (i + 1) for i, t in enumerate(expected) if t.requires_grad)
        g = sum(t.sum() * (i + 1) for i, t in enumerate(got) if t.requires_grad)
        for a, b in zip(
            torch.autograd.grad(e, leaves, allow_unused=True),
            torch.autograd.grad(g, ours, allow_unused=True),
            strict=True,
        ):
            assert (a is None) == (b is None)
            assert a is None or torch.equal(a, b)
    return trace


def names_of(trace: Any) -> list[str]:
    return [b.symbol.name for b in trace.bound_symbols]


def x34() -> torch.Tensor:
    return torch.arange(12, dtype=torch.float32).reshape(3, 4) / 7 - 1


def test_write_through_a_view_is_seen_by_another_view() -> None:
    def f(x, y):
        v, w = x.view(-1), x.t()
        x.add_(y)
        w.select(0, 1).mul_(2)
        return v + 1, w * 3, x

    check(f, x34(), x34())


def test_slice_of_an_input_is_written_and_the_input_returned() -> None:
    def f(x):
        torch.narrow(x, 0, 1, 2).mul_(3)
        return x

    trace = check(f, x34())
    assert names_of(trace)[-1] == "copy_"


def test_view_of_a_written_input_is_a_view_of_it() -> None:
    check(lambda x: (x.add_(1), x.select(1, 2)), x34())
    check(lambda x: x.add_(1).transpose(0, 1), x34())


def test_argument_is_the_tensor_itself() -> None:
    check(lambda x: x.add_(x), x34())


def test_chain_of_writes_has_one_write_back() -> None:
    trace = check(lambda x: x.add_(1).mul_(2).sub_(3).relu_(), x34())
    assert names_of(trace).count("copy_") == 1


def test_broadcast_and_cast() -> None:
    check(lambda x, y: x.add_(y), x34(), torch.tensor([1.0, 2, 3, 4]))
    check(lambda x, y: x.add_(y), x34(), torch.tensor([1, 2, 3, 4]))
    check(lambda x, y: x.add_(y), x34().half(), x34())
    check(lambda x: x.mul_(3), torch.arange(6))


def test_copy_into_a_transposed_view() -> None:
    check(lambda x, y: (x.t().copy_(y), x), x34(), torch.rand(4, 3))
    check(lambda x, y: (x.copy_(y), x + 1), x34(), torch.rand(4).double())


def test_masked_fill_on_a_select() -> None:
    check(
        lambda x, m: (x.select(0, 1).masked_fill_(m, -1.0), x * 2),
        x34(),
        torch.tensor([True, False, True, False]),
    )


def test_expanded_tensor_runs_in_order_and_raises() -> None:
    def f(x):
        return x.expand(3, 4).add_(1)

    trace, run, notes = compiled(f, (torch.rand(4),), NAMES)
    assert not trace.functional and "expanded" in notes[0][1]
    with pytest.raises(RuntimeError, match="more than one element"):
        run()


def test_random_writes_keep_the_generator() -> None:
    torch.manual_seed(0)
    # Functional where the operation has a row; in order, and right, where it is opaque.
    check(lambda x: (torch.nn.functional.dropout(x, 0.5, True, True), x), x34(), functional=None)
    check(lambda x: x.bernoulli_(0.25), x34(), functional=None)
    check(lambda x: torch.rand_like(x) * 0 + x, x34())


def test_dead_write_to_a_temporary_goes() -> None:
    def f(x):
        t = x * 2
        t.add_(1)
        return x.exp()

    assert names_of(check(f, x34()))[:1] == ["exp"]


def test_written_input_returned_twice() -> None:
    check(lambda x: (x.add_(1), x), x34())


def test_swap_of_two_inputs() -> None:
    def f(x, y):
        t = x.clone()
        x.copy_(y)
        y.copy_(t)
        return x, y

    check(f, x34(), x34() * 2)


def test_results_of_one_fresh_storage_share_it() -> None:
    def f(x):
        y = x * 2
        y.select(0, 0).add_(5)
        return y, y.select(0, 0), y.view(-1)

    check(f, x34())


def test_result_of_copy_is_fresh() -> None:
    def f(x):
        y = x * 2
        z = x * 0
        z.copy_(y)
        w = x * 0
        w.copy_(x)
        return y, z, w

    check(f, x34())


def test_strides_of_the_written_tensor_stay() -> None:
    wide = torch.arange(48, dtype=torch.float32).reshape(6, 8)
    check(lambda x, y: (x.t().add_(y), x), x34(), torch.rand(4, 3))
    check(lambda x, y: (x.add_(y), x * 2), wide.t(), torch.rand(8, 6))
    check(lambda x: (x.transpose(0, 1).contiguous().add_(1), x), wide)


def test_several_views() -> None:
    def f(x):
        a, b = x.chunk(2, 1)
        a.mul_(2)
        b.add_(a)
        return x, a, b

    check(f, x34())
    check(lambda x: (x.diagonal().zero_(), x), x34())
    check(lambda x: (x.unsqueeze(0).squeeze(0).permute(1, 0).sub_(1), x + 0), x34())
    check(lambda x: (x.unbind(1)[2].fill_(4), x.sum()), x34())


def test_an_item_updated_in_place() -> None:
    """`x[i] -= y` writes the item, and then the item to itself."""

    def fn(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y[1:] -= x[1:]
        y[0][1] *= 3
        y.T[2] += 1
        return y

    trace = check(fn, torch.randn(3, 4))
    assert not any("copy_" in b.symbol.name for b in trace.bound_symbols)
    check(fn, torch.randn(3, 4, requires_grad=True), grad=True)


def test_overlapping_argument_runs_in_order() -> None:
    def f(x):
        torch.narrow(x, 0, 0, 2).transpose(0, 1).add_(torch.narrow(x, 0, 1, 2).transpose(0, 1))
        return x

    trace, _, notes = compiled(f, (x34(),), NAMES)
    assert not trace.functional and "overlaps" in notes[0][1]


def test_inputs_that_share_storage_run_in_order() -> None:
    base = x34()
    trace, run, notes = compiled(lambda x, y: (x.add_(1), y * 2), (base, base.view(-1)), NAMES)
    assert not trace.functional and "share" in notes[0][1]
    expected = (x34() + 1).view(-1) * 2
    assert torch.equal(run()[1], expected)


def test_metadata_writes() -> None:
    def f(x):
        y = x * 2
        v = y.view(-1)
        y.t_()
        y.add_(1)
        return y, v

    check(f, x34())
    trace, _, notes = compiled(lambda x: x.t_(), (x34(),), NAMES)
    assert not trace.functional and "metadata" in notes[0][1]


def test_gradients_through_writes() -> None:
    def f(x, w):
        y = x * 2
        y.select(0, 1).mul_(w)
        v = y.view(-1)
        y.exp_()
        return v.sin(), y

    check(f, x34().requires_grad_(), torch.rand(4).requires_grad_(), grad=True)

    def g(x, w):
        y = x.sin()
        y.t().copy_(w.t().exp())
        return y.cos(), y.select(0, 1)

    check(g, x34().requires_grad_(), torch.rand(3, 4).requires_grad_(), grad=True)


def test_equal_results_stay_apart() -> None:
    trace = check(lambda x: (x + 1, x + 1), x34())
    assert names_of(trace).count("add") == 2
    trace = check(lambda x: (x + 1) * (x + 1), x34())
    assert names_of(trace).count("add") == 1


def test_random_programs() -> None:
    rng = random.Random(7)
    for _ in range(150):
        seed = rng.randrange(1 << 30)

        def program(x, y, seed=seed):
            r = random.Random(seed)
            live = [x, y, x * 2]
            for _ in range(r.randrange(2, 9)):
                t = r.choice(live)
                kind = r.randrange(9)
                if kind == 0 and t.dim():
                    live.append(t.select(0, r.randrange(t.shape[0])))
                elif kind == 1 and t.dim() == 2:
                    live.append(t.transpose(0, 1))
                elif kind == 2 and t.dim() and t.shape[0] > 1:
                    live.append(torch.narrow(t, 0, 1, t.shape[0] - 1))
                elif kind == 3 and t.dim():
                    live.append(t.unsqueeze(r.randrange(2)))
                elif kind == 4:
                    live.append(t.sin())
                elif kind == 5:
                    t.mul_(r.choice([0.5, -1.0]))
                elif kind == 6 and t.dim() and t.shape[-1] > 1:
                    live.extend(t.split(t.shape[-1] - 1, -1))
                elif kind == 7:
                    s = r.choice([s for s in live if s.shape == t.shape])
                    t.add_(s.clone())
                else:
                    s = r.choice([s for s in live if s.shape == t.shape])
                    t.copy_(s.cos() if r.random() < 0.5 else s.clone())
            return tuple(r.sample(live, min(len(live), 4)))

        check(program, x34(), torch.rand(3, 4))
