"""Random programs of what generated kernels compute: over odd, tiny and large shapes, tensors with
gaps, offsets, overlaps and repeated elements, all dtypes, NaN, infinities and subnormal numbers.
"""

from __future__ import annotations

import contextlib
import warnings

import torch

from fuzz_generate import Generator
from fuzz_program import Program

Tensor = torch.Tensor
SIZES = (1, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 127, 130, 257, 1025, 4099)
DTYPES = {
    "float32": 10, "bfloat16": 5, "float16": 4, "float64": 4, "int64": 2, "int32": 1, "int16": 1,
    "int8": 1, "uint8": 1, "bool": 1, "complex64": 0.3,
}  # fmt: skip
UNARY = (
    "abs acos acosh asin asinh atan atanh ceil cos cosh deg2rad digamma erf erfc erfinv exp exp2"
    " expm1 floor frac lgamma log log10 log1p log2 logit nan_to_num neg positive rad2deg reciprocal"
    " relu round rsqrt sigmoid sign sgn sin sinc sinh sqrt square tan tanh trunc clone"
).split()
TAMED = {  # what the arguments of these may be
    "acos": "({}.tanh())", "asin": "({}.tanh())", "atanh": "({}.tanh() * 0.9)",
    "erfinv": "({}.tanh() * 0.9)", "logit": "({}.sigmoid())", "acosh": "({}.abs() + 1)",
    "log": "({}.abs() + 0.1)", "log2": "({}.abs() + 0.1)", "log10": "({}.abs() + 0.1)",
    "sqrt": "{}.abs()", "rsqrt": "({}.abs() + 0.1)", "lgamma": "({}.abs() + 0.1)",
    "digamma": "({}.abs() + 0.1)", "exp": "{}.clamp(-9, 9)", "sinh": "{}.clamp(-9, 9)",
    "cosh": "{}.clamp(-9, 9)", "exp2": "{}.clamp(-9, 9)", "expm1": "{}.clamp(-9, 9)",
    "tan": "{}.clamp(-1.4, 1.4)", "reciprocal": "({}.abs() + 0.1)",
}  # fmt: skip
TRUTHS = "isnan isinf isfinite isposinf isneginf signbit logical_not".split()
INTEGER_UNARY = "abs neg sign square bitwise_not logical_not positive sgn clone".split()
FUNCTIONAL = "silu softplus leaky_relu hardsigmoid tanhshrink logsigmoid mish softsign relu".split()
# Eager's whole vectors treat NaN and infinities otherwise than the elements that are left.
UNEVEN = "gelu elu celu selu hardtanh hardswish hardshrink softshrink relu6".split()
BINARY = (
    "add sub mul maximum minimum fmax fmin atan2 hypot copysign remainder fmod floor_divide div"
    " true_divide pow xlogy logaddexp eq ne lt le gt ge logical_and logical_or logical_xor"
    " heaviside add sub mul"
).split()
BITS = "bitwise_and bitwise_or bitwise_xor".split()
REDUCTIONS = (
    "sum mean amax amin prod var std logsumexp argmax argmin any all count_nonzero nansum nanmean"
    " norm max min var_mean aminmax softmax log_softmax cumsum cumprod logcumsumexp cummax cummin"
).split()


class RegionGenerator(Generator):
    """Grows one program."""

    MAX_NUMEL = 1 << 17

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.sizes = self.random.choices(SIZES, k=3)
        if self.chance(0.06):
            self.sizes[self.random.randrange(3)] = 0
        while self.sizes[0] * self.sizes[1] * self.sizes[2] > self.MAX_NUMEL // 4:
            self.sizes[self.sizes.index(max(self.sizes))] = self.random.choice((2, 3, 7))
        self.dtype = self.random.choices(tuple(DTYPES), tuple(DTYPES.values()))[0]
        self.special = self.chance(0.25)

    def too_much(self, v: Tensor) -> bool:
        return v.numel() > self.MAX_NUMEL

    # Inputs.

    def shape(self) -> tuple[int, ...]:
        a, b, c = self.sizes
        return self.random.choice(
            [(a, b, c), (b, c), (b, c), (c,), (c,), (a, 1, c), (b, 1), (1, c), (1,), (), (a, b, 1)]
        )

    def make_input(self, name: str, earlier: list[str]) -> list[str]:
        if earlier and self.chance(0.08):
            form = self.random.choice(["{0}", "{0}.detach()", "{0}[:]", "{0}.view_as({0})"])
            return [f"{name} = {form.format(self.random.choice(earlier))}"]
        dtype = self.dtype
        if self.chance(0.25):
            dtype = self.random.choices(tuple(DTYPES), tuple(DTYPES.values()))[0]
        shape = self.shape()
        layout = self.random.choice(["", "", "", "", "t", "step", "offset", "expand", "overlap"])
        if not shape or (layout == "t" and len(shape) < 2):
            layout = ""
        made, after = list(shape), ""
        if layout == "t":
            made[-1], made[-2] = made[-2], made[-1]
            after = ".transpose(-1, -2)"
        elif layout == "step":
            made[-1] *= 2
            after = "[..., ::2]"
        elif layout == "offset":
            made[-1] += 3
            after = "[..., 2:-1]"
        elif layout == "expand":
            made[0] = 1
            after = f".expand({', '.join(map(str, shape))})"
        elif layout == "overlap":
            made[-1] += 2
            after = ".unfold(-1, 3, 1)[..., 1]" if self.chance(0.5) else ""
            made = made if after else list(shape)
        size = f"({', '.join(map(str, made))}{',' if len(made) == 1 else ''})"
        value = self.values(dtype, size)
        real = dtype.startswith(("float", "bfloat", "complex"))
        grad = ".requires_grad_()" if real and self.chance(0.5) and layout != "overlap" else ""
        return [f"{name} = ({value}).to(torch.{dtype}){after}{'.detach()' if after else ''}{grad}"]

    def values(self, dtype: str, size: str) -> str:
        if dtype == "bool":
            return f"torch.randn({size}, generator=g) > 0"
        if not dtype.startswith(("float", "bfloat", "complex")):
            low, high = (0, 9) if dtype == "uint8" else (-5, 6)
            if self.chance(0.15):
                low, high = (0, 256) if dtype == "uint8" else (-120, 120)
            return f"torch.randint({low}, {high}, {size}, generator=g)"
        draw = f"torch.randn({size}, generator=g, dtype=torch.float64)"
        if self.special:
            numbers = "nan, inf, -inf, 0.0, -0.0, 1e-40, -1e-40, 1.0, -2.5, 1e38, 6e4, 1e-6"
            numbers = numbers.replace("nan", "float('nan')").replace("inf", "float('inf')")
            index = f"torch.randint(0, 12, {size}, generator=g)"
            special = f"torch.tensor([{numbers}], dtype=torch.float64)[{index}]"
            rare = f"torch.rand({size}, generator=g) < {self.random.choice((0.02, 0.2))}"
            return f"torch.where({rare}, {special}, {draw})"
        scale = self.random.choice(("", "", "", " * 30", " * 1e-3", " + 4", ".round()"))
        return draw + scale

    # Statements.

    def real(self) -> str:
        return self.pick(lambda t: t.is_floating_point())

    def plain(self) -> str:
        return self.pick(lambda t: not t.is_complex())

    def scalar(self) -> str:
        few = ["2", "3", "0.5", "-1.5", "0.1", "-1", "1", "n", "k", "(n + 1)", "True", "1e-3", "0"]
        rare = ["float('inf')", "float('nan')", "-0.0", "1e30", "65504.0"]
        return self.random.choice(rare if self.special and self.chance(0.2) else few)

    def unary(self) -> str:
        a = self.plain()
        t = self.value(a)
        if not t.is_floating_point():
            if t.dtype == torch.bool:
                return f"torch.logical_not({a})"
            return f"torch.{self.random.choice(INTEGER_UNARY)}({a})"
        if self.chance(0.3):
            op = self.random.choice(UNEVEN if not self.special and self.chance(0.4) else FUNCTIONAL)
            # So far out eager has few digits as well.
            a = f"{a}.clamp(-3, 3)" if op == "gelu" else a
            extra = ", approximate='tanh'" if op == "gelu" and self.chance(0.5) else ""
            return f"F.{op}({a}{extra})"
        if self.chance(0.08):
            op = self.random.choice(TRUTHS)
            # The sign of a NaN is nobody's.
            return f"torch.{op}({a}.nan_to_num())" if op == "signbit" else f"torch.{op}({a})"
        op = self.random.choice(UNARY)
        if op in TAMED and not self.special:
            a = TAMED[op].format(a)
        if op == "nan_to_num" and self.chance(0.5):
            return f"torch.nan_to_num({a}, 0.5, 3.0, -2)"
        if op == "round" and self.chance(0.3):
            return f"torch.round({a}, decimals=2)"
        return f"torch.{op}({a})"

    def binary(self) -> str:
        a = self.plain()
        b = self.partner(a)
        if self.chance(0.15) and b in self.names:
            a, b = b, a
        op = self.random.choice(BINARY)
        integers = not self.value(a).is_floating_point()
        if integers and self.chance(0.3):
            return f"torch.{self.random.choice(BITS)}({a}, {b})"
        if op in ("maximum", "minimum", "fmax", "fmin", "atan2", "hypot", "logaddexp", "heaviside"):
            if b not in self.names:
                b = f"torch.full_like({a}, {b})"
        elif op == "div" and self.chance(0.4):
            return f"torch.div({a}, {b}, rounding_mode='{self.random.choice(('floor', 'trunc'))}')"
        elif op == "pow":
            if self.chance(0.5):
                return f"{a} ** {self.random.choice(('2', '3', '-1', '0.5', '-0.5', '1.7', '0'))}"
            a = f"({a}.abs() + 0.5)"
        elif op in ("add", "sub") and self.chance(0.2):
            return f"torch.{op}({a}, {b}, alpha={self.random.choice(('2', '3'))})"
        elif op in ("add", "sub", "mul") and b not in self.names and self.chance(0.5):
            sign = {"add": "+", "sub": "-", "mul": "*"}[op]
            return f"{b} {sign} {a}"
        if op in ("remainder", "fmod", "floor_divide") and self.special:
            op = "add"  # eager's vectors make NaN of very large quotients
        if op in ("remainder", "fmod", "floor_divide") and integers and b in self.names:
            b = f"({b} * 2 + 1)"  # what is left out may not raise
        if op.startswith("logical") and b not in self.names:
            b = f"({a} > {b})"
        return f"torch.{op}({a}, {b})"

    def ternary(self) -> str:
        a = self.real()
        b, c = self.partner(a), self.partner(a)
        low, high = self.random.choice([("-1", "1.5"), ("None", "0.5"), ("-0.2", "None")])
        return self.random.choice(
            [
                f"torch.where({a} > 0, {b}, {c})", f"torch.where({b} < {c}, {a}, 0.0)",
                f"torch.where({a} != {a}, {b}, {a})", f"torch.lerp({a}, {b}, 0.3)",
                f"torch.lerp({a}, {b}, {c})", f"torch.addcmul({a}, {b}, {c}, value=0.5)",
                f"torch.addcdiv({a}, {b}, {c} * {c} + 0.5, value=-0.7)",
                f"torch.clamp({a}, {low}, {high})", f"{a}.masked_fill({b} > 0.3, -2.0)",
                f"torch.clamp({a}, min={b})", f"{a}.masked_fill({a} > 0, float('-inf'))",
                f"F.threshold({a}, 0.1, 20)", f"torch.where({a}.isnan(), 0, {a})",
            ]
        )  # fmt: skip

    def reduction(self) -> str:
        a = self.plain()
        t = self.value(a)
        op = self.random.choice(REDUCTIONS)
        if not t.is_floating_point():
            op = self.random.choice("sum amax amin argmax any all max prod count_nonzero".split())
        if op in ("var", "std", "var_mean") and (self.special or 0 in t.stride()):
            op = "mean"  # eager's moving mean makes NaN of infinities that follow each other
        dim = str(self.dim(t)) if t.dim() else "0"
        keep = ", keepdim=True" if self.chance(0.5) else ""
        wide = self.random.choice(("", "", ", dtype=torch.float32", ", dtype=torch.float64"))
        if t.dtype == torch.float64:
            wide = ""  # what a sum rounds in between is not seen
        if op in ("max", "min"):
            return self.random.choice([f"{a}.{op}()", f"{a}.{op}({dim}{keep})[{int(bool(keep))}]"])
        if op in ("cummax", "cummin"):
            return f"{a}.{op}({dim})[0]"
        if op in ("cumsum", "cumprod", "logcumsumexp", "softmax", "log_softmax"):
            return f"{a}.{op}({dim}{wide if op != 'logcumsumexp' else ''})"
        if op in ("argmax", "argmin", "any", "all", "aminmax", "prod", "logsumexp"):
            if op in ("aminmax",):
                return f"{a}.aminmax(dim={dim}{keep})[0]"
            return f"{a}.{op}({dim}{keep}{wide if op == 'prod' else ''})"
        if op == "count_nonzero":
            return f"{a}.count_nonzero({dim})"
        if op == "norm":
            p = self.random.choice(("2", "1", "3", "float('inf')", "0.5"))
            return f"torch.linalg.vector_norm({a}, {p}, dim={dim}{keep})"
        several = t.dim() >= 2 and op not in ("var_mean",) and self.chance(0.35)
        if several:
            dim = f"({int(dim) % t.dim()}, {(int(dim) + 1) % t.dim()})"
        if op in ("var", "std", "var_mean"):
            unbiased = self.random.choice((", correction=0", ", correction=1", ", unbiased=True"))
            text = f"{a}.{op}({dim}{unbiased}{keep})"
            text = f"torch.var_mean({a}, {dim}{unbiased}{keep})[1]" if op == "var_mean" else text
            return text
        if op in ("amax", "amin"):
            return f"{a}.{op}({dim}{keep})"
        return f"{a}.{op}({dim}{keep}{wide})" if self.chance(0.8) else f"{a}.{op}()"

    def normalization(self) -> str:
        # Of equal elements nothing but rounding would be left.
        a = self.pick(lambda t: t.is_floating_point() and t.dim() >= 1 and 0 not in t.stride())
        t = self.value(a)
        width = t.shape[-1]
        weight = bias = "None"
        with contextlib.suppress(LookupError):
            if self.chance(0.6):
                weight = self.pick(lambda o: o.shape == (width,) and o.dtype == t.dtype)
                bias = self.pick(lambda o: o.shape == (width,) and o.dtype == t.dtype)
        forms = [
            f"{a}.softmax({self.dim(t)})", f"F.log_softmax({a}, {self.dim(t)})",
            f"F.layer_norm({a}, ({width},), {weight}, {bias})",
            f"F.rms_norm({a}, ({width},), {weight}, 1e-3)", f"F.normalize({a}, dim={self.dim(t)})",
            f"F.mse_loss({a}, {a}.detach() * 0.5)", f"F.smooth_l1_loss({a}, torch.zeros_like({a}))",
            f"F.cosine_similarity({a}, {a}.flip(-1), {self.dim(t)})",
            f"{a} / {a}.norm(dim={self.dim(t)}, keepdim=True)",
            f"{a} * torch.rsqrt({a}.pow(2).mean(-1, keepdim=True) + 1e-6)",
            f"({a} - {a}.mean({self.dim(t)}, keepdim=True)) * 2",
        ]  # fmt: skip
        if width == 1 or self.special:  # a difference of what should be equal, magnified
            forms = [f for f in forms if "layer_norm" not in f]
        if t.dim() == 2 and not self.special:
            forms += [f"F.batch_norm({a}, None, None, {weight}, {bias}, True)"] * 2
            forms += [f"F.cross_entropy({a}, {a}.detach().argmax(1))"]
        if t.dim() == 3 and width > 1 and not self.special:
            forms += [f"F.group_norm({a}, 1)", f"F.instance_norm({a})"]
        if width % 2 == 0 and width:
            forms += [f"F.glu({a}, -1)"]
        return self.random.choice(forms)

    def indexing(self) -> str:
        a = self.pick(lambda t: t.dim() >= 1 and t.numel() > 0)
        t = self.value(a)
        n, dim = t.shape[0], self.dim(t)
        size, last = t.shape[dim], t.shape[-1]
        few = [self.random.randrange(-n, n) for _ in range(3)]
        index = f"torch.tensor({few})"
        positive = f"torch.tensor({[i % n for i in few]})"
        computed = f"(torch.arange({last}) * 7 % {n})"
        along = f"(torch.zeros_like({a}, dtype=torch.int64) + {self.random.randrange(size)})"
        best = f"{a}.{self.random.choice(('argmax', 'argmin'))}({dim}, keepdim=True)"
        forms = [
            f"{a}[{index}]", f"{a}.index_select(0, {positive})", f"{a}.gather({dim}, {along})",
            f"{a}[{computed}]", f"{a}.gather({dim}, {best})",
            f"torch.take_along_dim({a}, {best}, {dim})",
            f"{a}[..., torch.tensor([0, -1])]", f"{a}.index_select({dim}, torch.arange({size}))",
            f"{a}[torch.arange({n}) % 2]" if n > 1 else f"{a}[[0]]",
        ]  # fmt: skip
        if t.is_complex() or t.dtype == torch.bool:
            forms = [f for f in forms if best not in f]
        if t.dim() == 2:
            forms += [f"F.embedding({positive}, {a})"]
        if t.dtype == torch.int64 and t.numel() < 500:
            forms += [f"F.one_hot({a} % 5, 5)", f"F.one_hot({a}.clamp(0, 3), 4).float()"]
        with contextlib.suppress(LookupError):
            i = self.pick(lambda o: o.dtype in (torch.int64, torch.int32) and o.dim() <= 2)
            forms += [f"{a}[{i}.long().remainder({n})]", f"{a}[{i}.long() % {n}]"]
        return self.random.choice(forms)

    def joining(self) -> str:
        a = self.pick(lambda t: t.dim() >= 1)
        t = self.value(a)
        b = self.pick(lambda o: o.shape == t.shape)
        dim = self.dim(t)
        half = t.shape[-1] // 2
        forms = [
            f"torch.cat([{a}, {b}], {dim})", f"torch.stack([{a}, {b}, {a}], {dim})",
            f"torch.cat((-{a}[..., {half}:], {a}[..., :{half}]), -1)",
            f"torch.cat([{a}.narrow({dim}, 0, {t.shape[dim] // 2}), {b}], {dim})",
            f"{a}.repeat({', '.join('2' if i == 0 else '1' for i in range(t.dim()))})",
            f"{a}.flip({dim})", f"{a}.roll({self.random.choice((1, -2, 3))}, {dim})",
            f"F.pad({a}, (1, 2))", f"F.pad({a}, (0, 1), value=0.5)", f"F.pad({a}, (-1, 1))",
            f"{a}.repeat_interleave(2, {dim})", f"torch.tile({a}, (2,))",
        ]  # fmt: skip
        if t.dtype == torch.bool:
            forms = [f for f in forms if "-" + a not in f]
        if t.dim() >= 2:
            forms += [f"{a}.tril({self.random.choice((0, 1, -1))})", f"{a}.triu()"]
            forms += [f"F.pad({a}, (1, 0, 2, 1))", f"{a}.rot90()"]
        return self.random.choice(forms)

    def view(self) -> str:
        if self.chance(0.25):
            a = self.pick(lambda t: t.dim() >= 1 and t.shape[-1] > 1)
            return self.random.choice(
                [
                    f"{a}[..., ::2]", f"{a}[..., 1:]", f"{a}[..., :-1]", f"{a}[..., None]",
                    f"{a}.unfold(-1, 2, 1)[..., 0]", f"{a}[None, ..., 0]", f"{a}.flatten(-1)",
                ]
            )  # fmt: skip
        return super().view()

    def conversion(self) -> str:
        a = self.plain()
        t = self.value(a)
        forms = [f"{a}.to(torch.{d})" for d in ("float32", "bfloat16", "float16", "float64")]
        forms += [f"{a}.float()", f"{a}.contiguous()", f"torch.zeros_like({a})", f"{a}.bool()"]
        forms += [f"torch.full_like({a}, n)", f"{a}.type_as({self.plain()})"]
        # C leaves open what integers are out of range.
        tame = f"{a}.nan_to_num(0, 1, 1).clamp(0, 100)" if t.is_floating_point() else a
        forms += [f"{tame}.to(torch.{d})" for d in ("int64", "int32", "uint8", "int8")]
        if t.is_floating_point():
            forms = [f for f in forms if "type_as" not in f]
        return self.random.choice(forms)

    def inplace(self) -> str:
        a = self.pick(lambda t: t.numel() > 0 and t.is_floating_point())
        b = self.partner(a)
        other = b if b in self.names else a
        forms = [
            f"{a}.add_({b})", f"{a}.mul_({b})", f"{a}.copy_({other})", f"{a}.sub_({b}, alpha=2)",
            f"{a}.masked_fill_({a} > 0, 0.1)", f"{a}.clamp_(-1, 1)", f"{a}.lerp_({other}, 0.5)",
            f"{a}.addcmul_({other}, {other}, value=0.1)", f"{a}.tanh_()", f"{a}.zero_()",
            f"{a}.addcdiv_({other}, {other}.abs() + 1, value=-0.1)", f"{a}.mul_(0.9).add_({other})",
        ]  # fmt: skip
        if self.value(a).dim() >= 1:
            forms += [f"{a}[..., 0] = {self.scalar()}", f"{a}[1:] *= 2", f"{a}[..., 1:].add_(1)"]
        return "! " + self.random.choice(forms)

    KINDS = (
        (unary, 14), (binary, 16), (ternary, 8), (reduction, 12), (normalization, 8), (view, 10),
        (joining, 6), (indexing, 6), (conversion, 6), (inplace, 4),
    )  # fmt: skip


def generate_region(seed: int) -> Program:
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return RegionGenerator(seed).program(modules=False)
    finally:
        torch.set_rng_state(state)
