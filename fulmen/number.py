"""What programs do with the Python numbers that tensors hold: the functions behind the rows of
cpp/ops/number.cpp."""

from __future__ import annotations

import math
import operator

import torch


def item(x: torch.Tensor) -> int | float:
    """`x.item()` of a real tensor of one element."""
    return x.item()


def add(a: float, b: float) -> float:
    """`a + b`."""
    return a + b


def sub(a: float, b: float) -> float:
    """`a - b`."""
    return a - b


def mul(a: float, b: float) -> float:
    """`a * b`."""
    return a * b


def truediv(a: float, b: float) -> float:
    """`a / b`."""
    return a / b


def pow(a: float, b: float) -> float:
    """`a**b`."""
    return operator.pow(a, b)


def lt(a: float, b: float) -> bool:
    """`a < b`."""
    return a < b


def le(a: float, b: float) -> bool:
    """`a <= b`."""
    return a <= b


def gt(a: float, b: float) -> bool:
    """`a > b`."""
    return a > b


def ge(a: float, b: float) -> bool:
    """`a >= b`."""
    return a >= b


def eq(a: float, b: float) -> bool:
    """`a == b`."""
    return a == b


def ne(a: float, b: float) -> bool:
    """`a != b`."""
    return a != b


def neg(a: float) -> float:
    """`-a`."""
    return -a


def abs(a: float) -> float:
    """`abs(a)`."""
    return operator.abs(a)


def sqrt(a: float) -> float:
    """`math.sqrt(a)`."""
    return math.sqrt(a)


def exp(a: float) -> float:
    """`math.exp(a)`."""
    return math.exp(a)


def log(a: float) -> float:
    """`math.log(a)`."""
    return math.log(a)


def sin(a: float) -> float:
    """`math.sin(a)`."""
    return math.sin(a)


def cos(a: float) -> float:
    """`math.cos(a)`."""
    return math.cos(a)


def tanh(a: float) -> float:
    """`math.tanh(a)`."""
    return math.tanh(a)
