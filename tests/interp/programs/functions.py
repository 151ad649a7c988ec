"""Functions: closures, namespaces, imports."""

import collections

from registry import program


@program
def closures(effects):
    count = 0

    def step(by=1, *, kw=None):
        nonlocal count
        count += by
        return count

    def make(n):
        return [lambda: (n, i) for i in range(2)]

    step()
    step(2)
    effects.append([f() for f in make(7)])
    del step
    try:
        step()
    except NameError as error:
        return count, str(error)


@program
def unbound_cell(effects):
    def read():
        return later

    try:
        read()
    except NameError as error:
        effects.append(str(error))
    later = 1
    return read()


@program
def annotations_and_defaults(effects):
    def f(a: int, b: "str" = "x", *, c: list = [1]) -> float:  # noqa: B006
        """Doc."""

    return f.__annotations__, f.__defaults__, f.__kwdefaults__, f.__doc__, f.__qualname__


@program
def namespaces(effects):
    x = 1
    effects.append(sorted(locals()))
    effects.append("namespaces" in globals())
    space = {"x": 5}
    exec("y = x + 1\ndef g(): return x * 2\nz = g()", space)
    effects.append((space["y"], space["z"]))
    return eval("x + 1"), eval("x + k", {"x": 2}, {"k": 3}), sorted(vars()), sorted(dir())[:2]


@program
def exec_raises(effects):
    exec("a = 1\nb = a / 0\n", {})


@program
def syntax_error(effects):
    try:
        eval("1 +")
    except SyntaxError as error:
        return error.msg, error.lineno, error.offset


@program
def imports(effects):
    import collections.abc as cabc
    from math import floor as f
    from os import path

    try:
        from math import nothing_of_this_name  # noqa: F401
    except ImportError as error:
        effects.append(str(error).split("(")[0])
    space = {}
    exec("from math import *", space)
    return cabc.Mapping.__name__, f(1.5), path.basename("/a/b"), "sqrt" in space


watched = "first"


@program
def globals_change(effects):
    global watched, len
    for i in range(4):
        effects.append(watched)
        if i == 1:
            watched = "second"
        effects.append(len([1, 2, 3]))
        if i == 2:
            len = lambda items: "shadowed"  # noqa: E731
    del len
    effects.append(len([1]))
    watched = "first"
    del globals()["watched"]
    try:
        return watched
    finally:
        globals()["watched"] = "first"


@program
def globals_in_an_instance(effects):
    class Space:
        pass

    space = Space()
    space.value = 1
    code = compile("def read(): return value", "<program>", "exec")
    exec(code, space.__dict__)
    effects.append(space.read())
    space.value = 2
    effects.append(space.read())
    del space.value
    return space.read()
