"""Metadata of functions that fake tensors can't run, because these look at values on their way.

A rule gets what the function would get, on fake tensors, and returns results with its metadata. A
size that depends on values is an unbacked symbolic one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch._prims_common import suggest_memory_format
from torch.utils import _pytree as pytree

from fulmen.errors import DataDependentError

Rule = Callable[..., Any]


def rule_for(func: Callable[..., Any]) -> Rule | None:
    return _RULES.get(func)


def corrected(mode: Any, func: Callable[..., Any], out: Any, args: tuple[Any, ...]) -> Any:
    """The result of running `func` on fake tensors, where its strides are not those of the call."""
    if func in _IN_THE_FORMAT_OF_THE_INPUT:
        with mode, torch.no_grad():
            format = suggest_memory_format(args[0])
            return out.contiguous(memory_format=format).requires_grad_(out.requires_grad)
    return out


def _unknown_size(mode: Any) -> Any:
    return mode.shape_env.create_unbacked_symint()


def _probed(func: Callable[..., Any], fill: Callable[[torch.Tensor], torch.Tensor]) -> Rule:
    """For functions whose metadata do not depend on values, though their checks do: runs them on
    real tensors with harmless values.
    """

    def real(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        made = torch.empty_strided(
            value.shape, value.stride(), dtype=value.dtype, device=value.device
        )
        return fill(made).requires_grad_(value.requires_grad)

    def rule(mode: Any, *args: Any, **kwargs: Any) -> Any:
        del mode
        real_args, real_kwargs = pytree.tree_map(real, (args, kwargs))
        with warnings.catch_warnings():  # the run itself will warn
            warnings.simplefilter("ignore")
            return func(*real_args, **real_kwargs)

    return rule


def _one_hot(mode: Any, tensor: torch.Tensor, num_classes: int = -1) -> torch.Tensor:
    del num_classes  # if it were given, no value would be looked at
    with mode:
        return tensor.new_empty((*tensor.shape, _unknown_size(mode)), dtype=torch.int64)


def _ctc_loss(
    mode: Any,
    log_probs: torch.Tensor,
    targets: torch.Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str | int = "mean",
    zero_infinity: bool = False,
) -> torch.Tensor:
    del targets, input_lengths, target_lengths, blank, zero_infinity
    with mode:
        # The rule is not called where autocast casts.
        if torch.is_autocast_enabled("cpu") and log_probs.dtype != torch.float64:
            log_probs = log_probs.float()
        if reduction in ("none", 0) and log_probs.ndim == 3:
            return log_probs.sum((0, 2))
        return log_probs.sum()


def _lstsq(mode: Any, A: torch.Tensor, B: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    """The residuals are there only where the values of A give full rank."""
    rule = _probed(torch.linalg.lstsq, torch.Tensor.normal_)
    solution, residuals, rank, singular_values = rule(mode, A, B, *args, **kwargs)
    driver = kwargs.get("driver", args[1] if len(args) > 1 else None)
    if residuals.numel() and driver != "gels":
        if residuals.ndim != 1:
            raise DataDependentError(
                "torch.linalg.lstsq: whether a batch has residuals depends on its values",
                "data-dependent",
            )
        with mode:
            shape = (_unknown_size(mode),)
            unknown = torch.empty(shape, dtype=residuals.dtype, device=residuals.device)
        residuals = unknown.requires_grad_(residuals.requires_grad)
    return torch.return_types.linalg_lstsq((solution, residuals, rank, singular_values))


def _ones(t: torch.Tensor) -> torch.Tensor:
    return t.fill_(1)


_IN_THE_FORMAT_OF_THE_INPUT = {torch._C._nn.max_unpool2d}

_RULES: dict[Callable[..., Any], Rule] = {
    **{
        f: _probed(f, _ones)
        for f in (
            torch.cov,
            torch.Tensor.cov,
            torch.corrcoef,
            torch.Tensor.corrcoef,
            torch.istft,
            torch.functional.istft,
            torch.Tensor.istft,
            torch.nn.functional.gaussian_nll_loss,
        )
    },
    torch.nn.functional.one_hot: _one_hot,
    torch.nn.functional.ctc_loss: _ctc_loss,
    torch.ctc_loss: _ctc_loss,
    torch.linalg.lstsq: _lstsq,
}
