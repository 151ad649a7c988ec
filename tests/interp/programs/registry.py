"""The programs, which have to do the same natively and interpreted.

Each is a function of one list, to which it appends what is compared besides its value, its exception
and its output.
"""

import importlib

MODULES = (
    "control_flow", "calls", "functions", "exceptions", "objects", "containers", "iterators",
    "frames", "lifetime",
)  # fmt: skip
# They reach the limit of recursion, or run under a trace function.
MAY_RUN_NATIVELY = {"recursion_without_end", "under_a_trace_function"}

registered = []


def program(function):
    registered.append(function)
    return function


def programs():
    for name in MODULES:
        importlib.import_module(name)
    return registered
