"""Time per bytecode of the interpreter in emulate mode, beside CPython's own.

    python benchmarks/micro/interpreter.py [FOLDER]

FOLDER holds the module _interp of a build with FULMEN_INTERP_ONLY=ON; without it the installed
fulmen is measured.
"""

import sys
import time


def load():
    if len(sys.argv) > 1:
        sys.path.insert(0, sys.argv[1])
        import _interp

        return _interp.interpret
    import fulmen

    return fulmen.interpret


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def loop(n):
    total = 0
    for i in range(n):
        if i % 3:
            total += i
        else:
            total -= 1
    return total


class Point:
    def __init__(self, x):
        self.x = x

    def add(self, other):
        return Point(self.x + other.x)


def methods(n):
    point, one = Point(0), Point(1)
    for _ in range(n):
        point = point.add(one)
    return point.x


def comprehension(n):
    return len([i * i for i in range(n) if i & 1])


def numbers(n):
    for i in range(n):  # noqa: UP028
        yield i


def generator(n):
    total = 0
    for x in numbers(n):
        total += x
    return total


def exceptions(n):
    caught = 0
    for i in range(n):
        try:
            if i % 2:
                raise ValueError
        except ValueError:
            caught += 1
    return caught


def count_bytecodes(function, n):
    """Instructions of this file that CPython executes for function(n)."""
    count = 0

    if hasattr(sys, "monitoring"):
        monitoring = sys.monitoring

        def executed(code, offset):
            nonlocal count
            count += code.co_filename == __file__

        monitoring.use_tool_id(4, "count")
        monitoring.register_callback(4, monitoring.events.INSTRUCTION, executed)
        monitoring.set_events(4, monitoring.events.INSTRUCTION)
        function(n)
        monitoring.set_events(4, 0)
        monitoring.free_tool_id(4)
        return count

    def trace(frame, event, arg):
        nonlocal count
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function(n)
    finally:
        sys.settrace(before)
    return count


def best(call, repeat=7):
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def main():
    interpret = load()
    print(f"CPython {sys.version.split()[0]}, ns per executed bytecode")
    print(f"{'':16}{'bytecodes':>10}{'CPython':>9}{'fulmen':>9}{'ratio':>7}")
    for function, n in (
        (fib, 17), (loop, 20000), (methods, 4000), (comprehension, 20000), (generator, 20000),
        (exceptions, 4000),
    ):  # fmt: skip
        count = count_bytecodes(function, n)
        native = best(lambda f=function, n=n: f(n)) / count * 1e9
        ours = best(lambda f=function, n=n: interpret(f, n)) / count * 1e9
        name = function.__name__
        print(f"{name:16}{count:>10}{native:>9.1f}{ours:>9.1f}{ours / native:>7.2f}")


if __name__ == "__main__":
    main()
