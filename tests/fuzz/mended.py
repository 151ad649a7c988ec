"""Programs that once differed from eager."""

from __future__ import annotations

from fuzz_program import Program

MENDED = {
    "indices in a tuple inside of a tuple": Program(
        inputs=("a0 = torch.zeros((3, 4))",),
        args=("a0",),
        body=("a0[(0, 2), (1, 3)] = 2.0", "v1 = a0[..., (0, 3)]"),
        returns=("a0", "v1"),
    ),
    "a number written to an expanded tensor": Program(
        inputs=("a0 = torch.ones((1, 3, 2)).expand(2, 3, 2)",),
        args=("a0",),
        body=("a0[..., 0] = 2.0",),
        returns=("a0",),
    ),
    "a write to the only result of a split": Program(
        inputs=("a0 = torch.ones((1,)).requires_grad_()",),
        args=("a0",),
        body=("v1 = (a0 * 2).unbind()[0]", "v1.tanh_()"),
        returns=("v1",),
    ),
    "a write to .data after the tensor was used": Program(
        inputs=("a0 = torch.ones((2,)).requires_grad_()",),
        args=("a0",),
        body=("v1 = torch.clamp(a0, -1, 1.5)", "a0.data.add_(1)"),
        returns=("v1",),
    ),
    "a bfloat16 tensor times a number in place": Program(
        inputs=(
            "a0 = torch.randn((200,), dtype=torch.bfloat16, generator=g)",
            "a1 = a0.detach()",  # inputs that share storage are written in order
        ),
        args=("a0", "a1"),
        body=("a1.mul_(1e-2)",),
        returns=("a0",),
    ),
    "a write to the result of a division": Program(
        inputs=("a0 = torch.ones((2,)).requires_grad_()",),
        args=("a0",),
        body=(
            "v1 = F.normalize(a0 * 2, dim=0)",
            "v2 = v1[v1 > 0].sum()",
            "v1.masked_scatter_(v1 > 0, v1 * 1)",
        ),
        returns=("v1",),
    ),
    "strides of a matrix times a batch": Program(
        inputs=("a0 = torch.ones((2, 1)).requires_grad_()", "a1 = torch.ones((1, 1, 1))"),
        args=("a0", "a1"),
        body=("v1 = torch.matmul(a0 * 2, a1)",),
        returns=("v1",),
    ),
    "transpose_ without grad mode": Program(
        inputs=("a0 = torch.ones((3, 3)).requires_grad_()",),
        args=("a0",),
        body=("v1 = a0 * 2", "with torch.no_grad():\n    v1.transpose_(0, 1)"),
        returns=("v1",),
    ),
    "a use of a view, without which eager refuses to write to it": Program(
        inputs=("a0 = torch.ones((3, 3))", "a1 = torch.ones((3,)).requires_grad_()", "a2 = a0"),
        args=("a0", "a1", "a2"),
        body=(
            "v1 = a2.diagonal()",
            "a2.sub_(a1, alpha=2)",
            "v3 = v1 * 2",
            "v1.lerp_(a1, 0.5)",
        ),
        returns=("a0",),
    ),
    "rms_norm of a row of a transposed matrix": Program(
        inputs=("a0 = torch.randn((2, 2), generator=g).t()[1:]",),
        args=("a0",),
        body=("v1 = F.rms_norm(a0, (2,), None, 1e-2)",),
        returns=("v1",),
    ),
}

# Of their gradients, computed inside.
MENDED_STEPS = {
    "a parameter updated after it was used": Program(
        inputs=("a0 = torch.ones((2,)).requires_grad_()",),
        args=("a0",),
        body=("v1 = a0 * 2", "with torch.no_grad():\n    a0.mul_(3)", "v2 = a0 * 5"),
        returns=("v1", "v2"),
    ),
    "a graph that begins before the call": Program(
        inputs=("a0 = torch.ones((2,)).requires_grad_()", "a1 = a0[0]"),
        args=("a0", "a1"),
        body=("v1 = a1 * 2",),
        returns=("v1",),
    ),
    "a value asked for between the loss and its gradient": Program(
        inputs=("a0 = torch.ones((2,)).requires_grad_()",),
        args=("a0",),
        body=("v1 = a0 * 2", "if a0.sum() > 0:\n    v2 = a0.detach() * 2"),
        returns=("v1",),
    ),
    "equal calls whose gradients have an order": Program(
        inputs=("a0 = torch.randn((3, 3), generator=g).requires_grad_()",),
        args=("a0",),
        body=("v1 = torch.addmm(a0 @ a0.t(), a0, a0.t(), beta=0.5)",),
        returns=("v1",),
    ),
    "an einsum whose operands are one tensor": Program(
        inputs=("a0 = torch.randn((3, 3), generator=g).requires_grad_()",),
        args=("a0",),
        body=("v1 = torch.einsum('ij,kj->ik', a0, a0)",),
        returns=("v1", "a0"),
    ),
    "a write through a view of the same shape": Program(
        inputs=("a0 = torch.randn((3, 3), dtype=torch.float64, generator=g).requires_grad_()",),
        args=("a0",),
        body=("v1 = a0 * 2", "v2 = v1.reshape(3, -1)", "v2.copy_(a0)", "v3 = v2 * 2"),
        returns=("v1", "v2", "v3"),
    ),
}

# With generated kernels.
MENDED_KERNELS = {
    "a comparison of what has no gradient": Program(
        inputs=("a0 = torch.ones((3,)).requires_grad_()", "a1 = a0.view_as(a0)"),
        args=("a0", "a1"),
        body=("v1 = torch.heaviside(a1, a0)", "v2 = a0[torch.tensor([0, 2])]", "v3 = v1 <= v1"),
        returns=("v2", "v3"),
    ),
    "a tensor made like one that is written before it is needed": Program(
        inputs=("a0 = torch.randn((17, 65), generator=g)",),
        args=("a0",),
        body=("v1 = torch.zeros_like(a0.mT)", "a0.addcmul_(a0, a0.abs())", "v2 = (v1 + 2).log()"),
        returns=("v2",),
    ),
    "norms of single elements take no powers": Program(
        inputs=("a0 = torch.tensor([[3e38], [1e-40], [6e4], [-0.0]])",),
        args=("a0",),
        body=("v1 = a0.norm(dim=1)", "v2 = torch.linalg.vector_norm(a0, 3, 1) * 2"),
        returns=("v1", "v2"),
    ),
    "strides of a root-mean-square norm": Program(
        inputs=(
            "a0 = torch.randn((5, 1), generator=g).T",
            "a1 = torch.randn((1, 22), generator=g).T",
        ),
        args=("a0", "a1"),
        body=("v1 = F.rms_norm(a0, (5,), None, 1e-3)", "v2 = F.rms_norm(a1, (1,))"),
        returns=("v1", "v2"),
    ),
    "a backward that eager refuses, and nobody asks for": Program(
        inputs=("a0 = torch.randn((3,), generator=g).requires_grad_()",),
        args=("a0",),
        body=("v1 = torch.logaddexp(a0, a0 > 0)",),
        returns=("v1",),
    ),
    "gradients of activations at NaN": Program(
        inputs=(
            "a0 = torch.full((64,), float('nan')).requires_grad_()",
            "a1 = torch.full((64,), float('nan')).requires_grad_()",
        ),
        args=("a0", "a1"),
        body=(
            "v1 = F.hardshrink(a0) + F.softshrink(a0) + F.hardtanh(a0) + F.relu6(a0)",
            "v2 = (F.elu(a1), F.selu(a1), F.hardswish(a1))",
        ),
        returns=("v1", "v2"),
    ),
    "the gradient of logit at a negative zero": Program(
        inputs=("a0 = torch.full((64,), -0.0).requires_grad_()",),
        args=("a0",),
        body=("v1 = torch.logit(a0)",),
        returns=("v1",),
    ),
}
