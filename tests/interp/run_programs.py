"""Everything about the interpreter that needs no test framework, on one Python.

    python run_programs.py MODULE_DIR

MODULE_DIR holds the extension `_interp`. Prints what fails; the last line is the count.
"""

import contextlib
import dis
import gc
import sys
import warnings

FOLDER = __file__.rpartition("/")[0]


def check_opcodes(interp):
    """Every opcode of this Python is decoded, or known and refused."""
    unknown = [
        name
        for name, number in dis.opmap.items()
        if number < 256
        and not name.startswith("INSTRUMENTED_")
        and interp.opcode_status(name) is None
    ]
    return [f"the decoder does not know the opcodes {unknown}"] if unknown else []


def blocks_after(call, function, calls):
    for _ in range(calls):
        with contextlib.suppress(Exception):
            call(function, [])
    gc.collect()
    return sys.getallocatedblocks()


def growth(interpret, function, calls):
    """Blocks that `calls` more calls keep, at the least: caches fill up, a leak goes on."""
    least = calls
    before = blocks_after(interpret, function, calls // 4)
    for _ in range(12):
        after = blocks_after(interpret, function, calls)
        least = min(least, after - before)
        if least <= calls // 4:
            break
        before = after
    return least


def check_leaks(interpret, programs, calls):
    """Calling a program again and again keeps no memory."""
    failures = []
    for function in programs:
        grown = growth(interpret, function, calls)
        if grown > calls // 4:
            failures.append(f"{function.__name__}: {grown} blocks more after {calls} calls")
    return failures


def main():
    module_dir = sys.argv[1]
    sys.path[:0] = [module_dir, FOLDER, f"{FOLDER}/programs"]
    warnings.simplefilter("ignore")
    import _interp
    import differential
    import lifetime
    import registry

    everything = registry.programs()
    failures = check_opcodes(_interp)
    for function in everything:
        difference = differential.compare(_interp.interpret, function)
        if difference:
            failures.append(f"{function.__name__}\n{difference}")
        refused = _interp.last_counters()["refused"]
        if refused and function.__name__ not in registry.MAY_RUN_NATIVELY:
            failures.append(f"{function.__name__}: {refused} calls were left to CPython")
    failures += check_leaks(_interp.interpret, everything, 100)
    failures += check_leaks(_interp.interpret, [lifetime.soak], 10_000)
    for failure in failures:
        print(failure)
    print(f"{len(everything)} programs, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
