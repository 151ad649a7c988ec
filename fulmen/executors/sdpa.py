"""The sdpa executor: attention by PyTorch's flash kernel for CPU, forward and backward."""

from __future__ import annotations

from typing import Any

import torch

from fulmen.executor import OperatorExecutor, call_symbol

_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def make() -> OperatorExecutor:
    ex = OperatorExecutor("sdpa")
    ex.register_implementation(
        "scaled_dot_product_attention", checker=_refusal, execution_transform=_flash
    )
    return ex


def _refusal(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0,
    is_causal: bool = False, *, scale: Any = None, enable_gqa: bool = False,
) -> str:  # fmt: skip
    del scale
    tensors = (query, key, value)
    if any(t.ndim != 4 for t in tensors):
        return "its kernel takes four dimensions: batch, heads, length, width"
    if any(t.device.type != "cpu" for t in tensors):
        return "its kernel is the CPU's"
    if query.dtype not in _FLOATS or any(t.dtype != query.dtype for t in tensors):
        return "its kernel takes one floating-point dtype"
    if dropout_p != 0:
        return "its kernel has no dropout"
    if enable_gqa or query.shape[1] != key.shape[1]:
        return "its kernel takes as many heads of keys as of queries"
    if query.shape[-1] != value.shape[-1] or query.shape[:2] != key.shape[:2]:
        return "its kernel takes queries, keys and values of one width"
    if any(d == 0 for t in tensors for d in t.shape):
        return "an empty tensor"
    if any(t.strides[-1] != 1 for t in tensors):
        return "its kernel takes tensors that are contiguous in the last dimension"
    if attn_mask is not None:
        if is_causal:
            return "a mask, and causal as well"
        if attn_mask.requires_grad or attn_mask.ndim not in (2, 4):
            return "a mask that needs a gradient, or of another rank"
        if attn_mask.dtype not in (torch.bool, query.dtype):
            return "a mask of another dtype"
    return ""


def _flash(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0,
    is_causal: bool = False, *, scale: Any = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    del enable_gqa
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        zero = torch.zeros((), dtype=query.dtype, device=query.device)
        attn_mask = torch.where(attn_mask, zero, float("-inf"))
    return call_symbol(
        "_scaled_dot_product_flash_attention_for_cpu", query, key, value, dropout_p, is_causal,
        attn_mask=attn_mask, scale=scale,
    )[0]  # fmt: skip
