"""Random tensor programs. Each statement is tried in eager PyTorch while the program grows, so that
what follows fits the shapes, dtypes and aliases there are.
"""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from fuzz_program import Program

Tensor = torch.Tensor
FLOATS = (torch.float64, torch.float32, torch.bfloat16)
UNARY = (
    "tanh sigmoid sin cos exp relu abs neg square sqrt log1p erf floor sign reciprocal rsqrt"
    " log exp2 expm1 atan round ceil trunc sinh"
).split()
FUNCTIONAL = "gelu silu elu softplus leaky_relu hardtanh relu6 logsigmoid mish selu".split()
BINARY = "add sub mul maximum minimum atan2 div pow".split()
COMPARISONS = "gt lt ge eq ne le".split()
REDUCTIONS = "sum mean amax amin prod var std logsumexp norm argmax max min any all cumsum".split()
INPLACE_UNARY = "tanh_ sigmoid_ sin_ relu_ neg_ exp_ abs_ square_ zero_ sqrt_ floor_ cos_".split()
MAX_VALUE = 1e4


class Generator:
    """Grows one program."""

    MAX_NUMEL = 64

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.scope: dict[str, Any] = {"torch": torch, "F": F, "nn": nn}
        self.names: list[str] = []  # expressions that are tensors
        self.body: list[str] = []
        self.count = 0
        self.dtype = self.random.choices(("float64", "float32", "bfloat16"), (6, 3, 1))[0]

    # Choices.

    def chance(self, p: float) -> bool:
        return self.random.random() < p

    def value(self, name: str) -> Any:
        return eval(name, self.scope)

    def pick(self, fits: Callable[[Tensor], bool] = lambda t: True) -> str:
        """A tensor that fits, newer ones more often.

        Raises:
            LookupError: there is none.
        """
        names = [n for n in self.names if fits(self.value(n))]
        if not names:
            raise LookupError
        if self.chance(0.5):
            names = names[-4:]
        return self.random.choice(names)

    def floating(self) -> str:
        return self.pick(lambda t: t.is_floating_point())

    def fresh(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def dim(self, t: Tensor) -> int:
        """A dimension, from the front or the back; fails for a tensor that has none."""
        return self.random.randrange(-t.dim(), t.dim())

    def scalar(self) -> str:
        return self.random.choice(["2", "0.5", "-1.5", "3", "1e-2", "n", "k", "(n + 1)", "-1", "0"])

    def partner(self, name: str) -> str:
        """What `name` can be combined with elementwise."""
        t = self.value(name)
        if self.chance(0.2):
            return self.scalar()

        def fits(other: Tensor) -> bool:
            try:
                return torch.broadcast_shapes(t.shape, other.shape) == t.shape
            except RuntimeError:
                return False

        return self.pick(fits)

    # Statements: each returns (an expression, whether it is a tensor) or a whole statement.

    def unary(self) -> str:
        a, op = self.floating(), self.random.choice(UNARY)
        if self.chance(0.2):
            return f"F.{self.random.choice(FUNCTIONAL)}({a})"
        if op in ("sqrt", "log", "rsqrt", "reciprocal"):
            return f"({a}.abs() + 0.5).{op}()"
        return f"torch.{op}({a})" if self.chance(0.5) else f"{a}.{op}()"

    def binary(self) -> str:
        a = self.pick()
        b = self.partner(a)
        op = self.random.choice(BINARY)
        if op in ("div", "pow"):
            sign = "/" if op == "div" else "**"
            return f"{a} {sign} ({b} + 2.5)" if op == "div" else f"({a}.abs() + 0.5) ** 2"
        if op in ("maximum", "minimum", "atan2"):
            return f"torch.{op}({a}, {b})"
        if self.chance(0.4):
            return f"{a} {({'add': '+', 'sub': '-', 'mul': '*'})[op]} {b}"
        if op == "mul":
            return f"torch.mul({a}, {b})"
        alpha = ", alpha=2" if self.chance(0.2) else ""
        return f"torch.{op}({a}, {b}{alpha})"

    def ternary(self) -> str:
        a = self.floating()
        b, c = self.partner(a), self.partner(a)
        return self.random.choice(
            [
                f"torch.where({a} > 0, {b}, {c})",
                f"torch.lerp({a}, {b}, 0.3)",
                f"torch.addcmul({a}, {b}, {c}, value=0.5)",
                f"torch.clamp({a}, -1, 1.5)",
                f"torch.where({b} < {c}, {a}, 0.0)",
                f"{a}.masked_fill({b} > 0.3, -2.0)",
                f"{a}.masked_fill({a} > 0, 0.25)",
            ]
        )

    def comparison(self) -> str:
        a = self.pick()
        return f"{a}.{self.random.choice(COMPARISONS)}({self.partner(a)})"

    def matmul(self) -> str:
        a = self.pick(lambda t: t.is_floating_point() and t.dim() >= 1)
        t = self.value(a)
        b = self.pick(lambda o: o.dtype == t.dtype and o.dim() >= 1)
        o = self.value(b)
        forms = [f"torch.matmul({a}, {b})"]
        if o.dim() >= 2:
            forms.append(f"{a} @ {b}.transpose(-1, -2)")
        if t.dim() == 2:
            forms += [
                f"{a}.t() @ {a}",
                f"F.linear({b}, {a})",
                f"torch.einsum('ij,kj->ik', {a}, {b})",
            ]
            forms.append(f"torch.addmm({a} @ {a}.t(), {a}, {a}.t(), beta=0.5)")
        if t.dim() == 3:
            forms += [f"torch.bmm({a}, {a}.mT)", f"F.scaled_dot_product_attention({a}, {a}, {a})"]
        return self.random.choice(forms)

    def reduction(self) -> str:
        a = self.floating()
        op = self.random.choice(REDUCTIONS)
        t = self.value(a)
        dim = self.dim(t) if t.dim() else 0
        keep = ", keepdim=True" if self.chance(0.4) else ""
        if op in ("max", "min"):
            return self.random.choice([f"{a}.{op}()", f"{a}.{op}({dim}{keep})[0]"])
        if op in ("logsumexp", "argmax", "cumsum"):
            return f"{a}.{op}({dim}{keep if op != 'cumsum' else ''})"
        if op in ("any", "all"):
            return f"({a} > 0).{op}({dim}{keep})"
        if op in ("amax", "amin", "sum", "mean", "var") and t.dim() >= 2 and self.chance(0.3):
            return f"{a}.{op}(({dim % t.dim()}, {(dim + 1) % t.dim()}){keep})"
        if op == "norm":
            return f"{a}.norm(dim={dim}{keep})"
        return self.random.choice([f"{a}.{op}()", f"{a}.{op}(dim={dim}{keep})"])

    def normalization(self) -> str:
        a = self.pick(lambda t: t.is_floating_point() and t.dim() >= 1)
        t = self.value(a)
        width = t.shape[-1]
        weight = "None"
        with contextlib.suppress(LookupError):
            if self.chance(0.6):
                weight = self.pick(lambda o: o.shape == (width,) and o.dtype == t.dtype)
        return self.random.choice(
            [
                f"{a}.softmax({self.dim(t)})",
                f"F.log_softmax({a}, {self.dim(t)})",
                f"F.layer_norm({a}, ({width},), {weight})",
                f"F.rms_norm({a}, ({width},), {weight}, 1e-3)",
                f"F.normalize({a}, dim={self.dim(t)})",
                f"F.dropout({a}, 0.5)",
                f"F.dropout({a}, 0.25, training=k > 2)",
                f"{a} * torch.rand_like({a})",
                f"{a} + torch.randn({width}, dtype={a}.dtype)",
                f"F.mse_loss({a}, {a}.detach() * 0.5)",
                f"F.smooth_l1_loss({a}, torch.zeros_like({a}))",
            ]
        )

    def view(self) -> str:
        a = self.pick(lambda t: t.dim() >= 1)
        t = self.value(a)
        dim = self.dim(t)
        size = t.shape[dim]
        i = self.random.randrange(max(size, 1))
        lo, hi = sorted((i, self.random.randrange(max(size, 1)) + 1))
        forms = [
            f"{a}.view(-1)", f"{a}.reshape(-1)", f"{a}.select({dim}, {i})", f"{a}[{i}:]",
            f"{a}.narrow({dim}, {lo}, {min(hi - lo, size - lo)})", f"{a}.unsqueeze({dim})",
            f"{a}.chunk(2, {dim})[0]", f"{a}.unbind({dim})[{i}]", f"{a}.flatten()",
            f"{a}[..., {self.random.randrange(t.shape[-1] or 1)}]", f"{a}[None]",
            f"{a}.unsqueeze(0).expand(2, {', '.join('-1' for _ in t.shape)})",
            f"{a}[::2]", f"{a}.view_as({a})", f"{a}.split(1, {dim})[-1]", f"{a}.squeeze()",
            f"{a}.movedim({dim}, 0)", f"{a}[...]", f"{a}.squeeze({dim})", f"{a}.detach()",
            f"{a}.alias()" if self.chance(0.1) else f"{a}[..., :{max(hi, 1)}]",
        ]  # fmt: skip
        if t.dim() >= 2:
            forms += [f"{a}.transpose(0, {dim})", f"{a}.t()", f"{a}.mT", f"{a}.diagonal()"]
            forms += [f"{a}.permute({', '.join(map(str, self.permutation(t.dim())))})"]
            forms += [f"{a}.flatten({dim % t.dim()})", f"{a}.reshape({t.shape[0]}, -1)", f"{a}.T"]
            forms += [f"{a}.view({t.shape[-1]}, -1)"]
        return self.random.choice(forms)

    def permutation(self, n: int) -> list[int]:
        return self.random.sample(range(n), n)

    def joining(self) -> str:
        a = self.pick(lambda t: t.dim() >= 1)
        t = self.value(a)
        b = self.pick(lambda o: o.shape == t.shape)
        dim = self.dim(t)
        return self.random.choice(
            [
                f"torch.cat([{a}, {b}], {dim})",
                f"torch.stack([{a}, {b}, {a}], {dim})",
                f"torch.cat(({a}, {b}.detach()))",
                f"{a}.repeat({', '.join('2' if i == 0 else '1' for i in range(t.dim()))})",
                f"{a}.flip({dim})",
                f"{a}.roll(1, {dim})",
                f"{a}.tril()" if t.dim() >= 2 else f"{a}.clone()",
                f"F.pad({a}, (1, 1))",
            ]
        )

    def indexing(self) -> str:
        a = self.pick(lambda t: t.dim() >= 1 and t.numel() > 0)
        t = self.value(a)
        n = t.shape[0]
        indices = [self.random.randrange(n) for _ in range(3)]
        index = f"torch.tensor({indices})"
        along = f"torch.zeros_like({a}, dtype=torch.int64)"
        return self.random.choice(
            [
                f"{a}[{index}]",
                f"{a}.index_select(0, {index})",
                f"{a}.gather({self.dim(t)}, {along})",
                f"{a}.scatter(0, {along}, 2.0)",
                f"{a}.scatter_add(0, {along}, {a} * 2)",
                f"{a}.index_add(0, {index}, {a}[{index}])",
                f"{a}.sort({self.dim(t)})[0]",
                f"{a}.topk(1, {self.dim(t)})[0]",
                f"torch.take_along_dim({a}, {along}, 0)",
                f"{a}[{a} > 0].sum()",
                f"F.embedding({index}, {a})" if t.dim() == 2 else f"{a}[[0, -1]]",
            ]
        )

    def conversion(self) -> str:
        a = self.pick()
        return self.random.choice(
            [
                f"{a}.float()", f"{a}.double()", f"{a}.to(torch.{self.dtype})", f"{a}.contiguous()",
                f"{a}.clone()", f"{a}.detach()", f"{a}.detach().clone()", f"{a}.bfloat16()",
                f"{a}.to(torch.int64)", f"torch.zeros_like({a})", f"torch.ones_like({a})",
                f"{a}.new_zeros(2, 3)", f"torch.full_like({a}, n)", f"{a}.type_as({self.pick()})",
                f"torch.empty_like({a}).copy_({a})",
            ]
        )  # fmt: skip

    def inplace(self) -> str:
        a = self.pick(lambda t: t.numel() > 0)
        t = self.value(a)
        b = self.partner(a)
        other = b if b in self.names else a
        forms = [
            f"{a}.{self.random.choice(INPLACE_UNARY)}()", f"{a}.add_({b})", f"{a}.mul_({b})",
            f"{a}.sub_({b}, alpha=2)", f"{a}.copy_({other})", f"{a}.fill_(0.5)",
            f"{a}.masked_fill_({a} > 0, 0.1)", f"{a}.clamp_(-1, 1)", f"{a}.add_({a})",
            f"{a}.addcmul_({other}, {other}, value=0.1)", f"{a}.mul_(0.5)", f"{a}.div_(2)",
            f"torch.add({a}, {b}, out={a})" if self.chance(0.1) else f"{a}.copy_({other} * 2)",
            f"F.relu({a}, inplace=True)", f"{a}.detach().mul_(2)", f"{a}.lerp_({other}, 0.5)",
            f"F.dropout({a}, 0.5, inplace=True)", f"{a}.fill_({a}.sum())" , f"{a}.uniform_()"
        ]  # fmt: skip
        if a.isidentifier():
            forms += [f"{a} += {b}", f"{a} *= {b}", f"{a} -= 1"]
        if t.dim() >= 1:
            n = t.shape[0]
            i = self.random.randrange(n)
            index = f"torch.tensor([{i}, {self.random.randrange(n)}])"
            along = f"torch.zeros_like({a}, dtype=torch.int64)"
            forms += [
                f"{a}[{i}] = {self.scalar()}", f"{a}[{i}:] *= 2", f"{a}[{i}].add_({a}[{i}])",
                f"{a}[..., {self.random.randrange(t.shape[-1])}] = {a}[..., 0]",
                f"{a}[{a} > 0.2] = 0.3", f"{a}[{index}] = 1.5", f"{a}[{i}].copy_({a}[-1])",
                f"{a}.index_fill_(0, {index}, 0.5)", f"{a}.index_add_(0, {index}, {a}[{index}])",
                f"{a}.scatter_(0, {along}, 0.7)", f"{a}.view(-1)[{i}:].mul_({self.scalar()})",
                f"{a}.index_put_(({index},), {a}[{index}] * 2, accumulate={self.chance(0.5)})",
                f"{a}.unbind()[{i}].tanh_()", f"{a}.chunk(2)[0].mul_(3)", f"{a}[{i}] = {a}.sum()",
                f"{a}.narrow(0, {i}, 1).zero_()", f"{a}[{i}:{i + 1}] = {a}[:1] * 2",
                f"{a}.scatter_add_(0, {along}, {a} * 0.5)", f"{a}.masked_scatter_({a} > 0, {a} * 2)"
            ]  # fmt: skip
        if t.dim() >= 2:
            forms += [f"{a}.t()[0].add_(1)", f"{a}.diagonal().mul_(2)", f"{a}.T.mul_({a}.T)"]
            forms += [f"{a}.t_()", f"{a}.transpose_(0, 1)", f"{a}.fill_diagonal_(0.5)"]
        return "! " + self.random.choice(forms)

    def block(self) -> str:
        inner = [self.statement() for _ in range(self.random.choice((1, 2, 2)))]
        lines = [line for s in inner for line in s.split("\n")]
        head = self.random.choice(
            [
                "with torch.no_grad():", "with torch.no_grad():", "if k > 2:", "if n > 100:",
                "for _ in range(2):", "if self_training:", "with torch.enable_grad():",
                f"if {self.floating()}.sum() > 0:", "with torch.no_grad():",
            ]
        )  # fmt: skip
        head = head.replace("self_training", "k != 2")
        return "\n".join([f"! {head}", *(f"    {line}" for line in lines)])

    def several(self) -> str:
        a = self.pick(lambda t: t.dim() >= 1 and t.shape[0] > 1)
        t = self.value(a)
        x, y = self.fresh(), self.fresh()
        dim = self.random.choice([d for d in range(t.dim()) if t.shape[d] > 1])
        forms = [f"{a}.chunk(2, {dim})", f"{a}.sort({dim})", f"{a}.max({dim})"]
        forms += [f"{a}.topk(1, {dim})", f"torch.var_mean({a}, {dim})", f"{a}.std(), {a}[0]"]
        if t.shape[dim] == 2:
            forms.append(f"{a}.unbind({dim})")
        return f"! {x}, {y} = {self.random.choice(forms)}"

    def container(self) -> str:
        v, a, b = self.fresh(), self.pick(), self.pick()
        form = self.random.choice([f"[{a}, {b}]", f"{{0: {a}, 1: {b}}}", f"({a}, {b} * 2)"])
        return f"! {v} = {form}"

    KINDS = (
        (unary, 10), (binary, 12), (ternary, 5), (comparison, 2), (matmul, 6), (reduction, 8),
        (normalization, 6), (view, 16), (joining, 4), (indexing, 5), (conversion, 4), (inplace, 20),
        (several, 3), (block, 5), (container, 2),
    )  # fmt: skip

    def statement(self) -> str:
        """A statement; one that begins with `! ` in its making assigns no new tensor.

        Raises:
            LookupError, ValueError, IndexError: no tensor so far fits.
        """
        kinds, weights = zip(*self.KINDS, strict=True)
        text = self.random.choices(kinds, weights)[0](self)
        if text.startswith("! "):
            return text[2:]
        target = self.fresh()
        if self.chance(0.08):
            with contextlib.suppress(LookupError):
                target = self.pick(lambda t: t.is_floating_point())
        return f"{target} = {text}" if target.isidentifier() else f"{self.fresh()} = {text}"

    # Growth.

    def try_statement(self) -> None:
        try:
            text = self.statement()
        except (LookupError, ValueError):
            return
        known = dict(self.scope)
        try:
            exec(text, self.scope)
            bad = any(self.too_much(self.value(n)) for n in self._tensors())
        except Exception:
            if self.chance(0.01):
                self.body.append(text)
            self.scope = known
            return
        # A value that grew too large may have done so in place: the program ends before that.
        if bad:
            self.scope = known
            if any(self.too_much(self.value(n)) for n in self.names):
                raise _Full
            return
        self.body.append(text)
        self.names = self._tensors()

    def too_much(self, v: Tensor) -> bool:
        """Whether the tensor is larger than those of programs, or has larger numbers."""
        if v.numel() > self.MAX_NUMEL:
            return True
        if v.is_floating_point():
            return not bool((v.detach().abs() <= MAX_VALUE).all())
        return bool(v.numel()) and v.dtype == torch.int64 and int(v.abs().max()) > MAX_VALUE

    def _tensors(self) -> list[str]:
        found = [n for n in self.names if n in self.scope or not n.isidentifier()]
        for name, v in self.scope.items():
            expressions = {name: v}
            if isinstance(v, (list, tuple)) and name.startswith("v"):
                expressions = {f"{name}[{i}]": x for i, x in enumerate(v)}
            elif isinstance(v, dict) and name.startswith("v"):
                expressions = {f"{name}[{i}]": x for i, x in v.items()}
            found += [e for e, x in expressions.items() if isinstance(x, Tensor) and e not in found]
        return found

    def make_input(self, name: str, earlier: list[str]) -> list[str]:
        shape = self.random.choice(
            [
                (2, 3),
                (3,),
                (2, 3),
                (3, 3),
                (2, 2, 3),
                (),
                (4, 3),
                (1, 3),
                (2, 1),
                (6,),
                (0, 3),
                (3, 2),
            ]
        )
        size = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        dtype = f"torch.{self.dtype}"
        if earlier and self.chance(0.3):
            base = self.random.choice(earlier)
            form = self.random.choice(
                ["{0}", "{0}.detach()", "{0}.view(-1)", "{0}[0]", "{0}.t()", "{0}[1:]", "{0}[:1]",
                 "{0} * 2", "{0}[:]", "{0}[::2]", "{0}.view_as({0})"]
            )  # fmt: skip
            return [f"{name} = {form.format(base)}"]
        if self.chance(0.08):
            return [f"{name} = torch.randint(0, 5, ({size}), generator=g)"]
        grad = ".requires_grad_()" if self.chance(0.55) else ""
        value = f"torch.randn(({size}), dtype={dtype}, generator=g)"
        if len(shape) == 2 and self.chance(0.15):
            value = f"torch.randn(({shape[1]}, {shape[0]}), dtype={dtype}, generator=g).t()"
        return [f"{name} = {value}{grad}"]

    def program(self, modules: bool = True) -> Program:
        is_module = modules and self.chance(0.3)
        state: list[str] = []
        g = torch.Generator().manual_seed(1)
        self.scope["g"] = g
        if is_module:
            state = self._make_state()
            for line in state:
                exec(line, self.scope)
        inputs: list[str] = []
        args: list[str] = []
        for i in range(self.random.choice((1, 2, 2, 3, 3, 4))):
            lines = self.make_input(f"a{i}", args)
            try:
                for line in lines:
                    exec(line, self.scope)
            except (RuntimeError, IndexError):
                continue
            args.append(f"a{i}")
            inputs += lines
        if not args:
            inputs, args = [f"a0 = torch.ones((3,), dtype=torch.{self.dtype})"], ["a0"]
            exec(inputs[0], self.scope)
        self.names += [*args, *args]
        self.names = list(dict.fromkeys(self.names))
        numbers = ["k = 2", f"n = {self.random.choice((1.5, 0.5, 2))}"]
        for line in numbers:
            exec(line, self.scope)
        for _ in range(self.random.choice((4, 6, 8, 8, 10, 14, 20))):
            try:
                self.try_statement()
            except _Full:
                break
        made = [n for n in self.names if n not in args] or args
        returns = list(dict.fromkeys(self.random.choices(made, k=self.random.choice((1, 2, 3)))))
        returns += [n for n in made[-2:] if n not in returns and self.chance(0.7)]
        if args and self.chance(0.2):
            returns.append(self.random.choice(args))
        return Program(
            inputs=(*inputs, *numbers),
            args=(*args, "k", "n"),
            body=tuple(self.body),
            returns=tuple(returns),
            state=tuple(state) if is_module else None,
            cache="symbolic values" if self.chance(0.15) else "constant values",
        )

    def _make_state(self) -> list[str]:
        dtype = f"torch.{self.dtype}"
        state = [
            "g = torch.Generator().manual_seed(7)",
            f"m.p0 = nn.Parameter(torch.randn(3, 3, dtype={dtype}, generator=g))",
            f"m.p1 = nn.Parameter(torch.randn(3, dtype={dtype}, generator=g))",
            f"m.register_buffer('b0', torch.randn(3, dtype={dtype}, generator=g))",
        ]
        self.names += ["self.p0", "self.p1", "self.b0"]
        if self.chance(0.4):
            state.append("m.p2 = m.p0")
            self.names.append("self.p2")
        if self.chance(0.3):
            state.append("m.p1.requires_grad_(False)")
        if self.chance(0.3):
            state.append("m.register_buffer('b1', m.b0[:2])")
            self.names.append("self.b1")
        self.scope["m"] = self.scope["self"] = nn.Module()
        return state


class _Full(Exception):
    """The program can't grow further."""


def generate(seed: int) -> Program:
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Generator(seed).program()
    finally:
        torch.set_rng_state(state)
