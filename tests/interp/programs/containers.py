"""Containers: dictionaries, sequences, unpacking."""

from registry import program


@program
def dictionaries(effects):
    d = {"a": 1, **{"b": 2}, "c": 3}
    d |= {"d": 4}
    d.update(e=5)
    d.setdefault("f", []).append(6)
    del d["a"]

    class Default(dict):
        def __missing__(self, key):
            effects.append(key)
            return len(key)

    effects.append((d, list(reversed(d)), d.pop("zz", None), Default()["four"]))
    return {k: v for k, v in d.items() if k != "b"}, d.keys() & {"c", "d"}, d["nothing"]


@program
def sequences(effects):
    items = list(range(10))
    items[2:4] = "abc"
    del items[0], items[-1:]
    first, *middle, last = items
    (a, b), c = [[1, 2], 3]
    effects.append((items[1:7:2], items[::-1][0], first, middle, last, a, b, c))
    effects.append(((1, *[2, 3], *"ab"), [*range(2), *{4}], {*[1, 2], 3}))

    class Get:
        def __getitem__(self, key):
            return key

        def __setitem__(self, key, value):
            effects.append((key, value))

        def __delitem__(self, key):
            effects.append(("del", key))

    get = Get()
    get[1:2, ...] = 3
    del get[5]
    return get[1:2], get[::2, None], list[int], items[99]


def unpack_case(statement):
    def unpacks(effects):
        exec(statement, {"effects": effects})

    unpacks.__name__ = "unpack_" + "".join(c if c.isalnum() else "_" for c in statement)
    program(unpacks)


for each in ("a, b = 1", "a, b = [1]", "a, b = iter('xyz')", "a, *b, c = (1,)", "a, b = {}"):
    unpack_case(each)


@program
def changed_while_iterated(effects):
    d = {1: 1, 2: 2}
    for key in d:
        d[key + 10] = 0
