"""The extension system: executors, operators and kernels of one's own. See docs/executors.md."""

from __future__ import annotations

from fulmen.executor import (
    Executor,
    FusionExecutor,
    Operator,
    OperatorExecutor,
    StatefulExecutor,
    get_grad,
    put_grad,
    python_callable,
)
from fulmen.executors import (
    add_default_executor,
    deregister_executor,
    get_all_executors,
    get_default_executors,
    get_executor,
    load_plugin,
    register_executor,
    remove_default_executor,
    set_default_executors,
    transform_for_execution,
    transform_for_operator_executor_execution,
)
from fulmen.executors.native import include_dir

__all__ = [
    "Executor",
    "FusionExecutor",
    "Operator",
    "OperatorExecutor",
    "StatefulExecutor",
    "add_default_executor",
    "deregister_executor",
    "get_all_executors",
    "get_default_executors",
    "get_executor",
    "get_grad",
    "include_dir",
    "load_plugin",
    "put_grad",
    "python_callable",
    "register_executor",
    "remove_default_executor",
    "set_default_executors",
    "transform_for_execution",
    "transform_for_operator_executor_execution",
]
