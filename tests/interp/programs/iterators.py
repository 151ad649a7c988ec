"""Iterators: generators, coroutines, iterator classes."""

import asyncio
import contextlib
import inspect
import types

from registry import program


@program
def generators(effects):
    def inner():
        try:
            got = yield 1
            effects.append(got)
            yield 2
        except ValueError as error:
            effects.append(repr(error))
            yield "caught"
        finally:
            effects.append("inner done")
        return "result"

    def outer():
        value = yield from inner()
        effects.append(value)
        yield value

    g = outer()
    effects.append(
        (next(g), g.send("sent"), g.throw(ValueError("thrown")), next(g), next(g, "end"))
    )
    h = outer()
    next(h)
    h.close()
    effects.append((inspect.getgeneratorstate(h), g.gi_frame is None, type(h).__name__))
    with contextlib.suppress(StopIteration):
        g.send(None)
    return list(zip(outer(), range(5))), sum(x * x for x in range(4))


@program
def generator_state(effects):
    def g():
        x = 1
        effects.append((gen.gi_running, gen.gi_frame.f_locals["x"]))
        yield x

    gen = g()
    effects.append(
        (inspect.isgenerator(gen), isinstance(gen, types.GeneratorType), gen.gi_code is g.__code__)
    )
    next(gen)
    effects.append((gen.gi_frame.f_lineno - g.__code__.co_firstlineno, gen.gi_frame.f_locals["x"]))
    try:
        gen.send(1)
    except StopIteration:
        pass
    gen = g()
    gen.send("too early")


@program
def generator_calls_itself(effects):
    def g():
        next(gen)
        yield

    gen = g()
    next(gen)


@program
def stop_iteration_inside(effects):
    def g():
        yield 1
        raise StopIteration("inside")

    return list(g())


@program
def generator_ignores_close(effects):
    def g():
        for _ in range(2):
            try:
                yield
            except GeneratorExit:
                effects.append("no")

    gen = g()
    next(gen)
    gen.close()


@program
def iterator_classes(effects):
    class Count:
        def __init__(self, n):
            self.n = n

        def __iter__(self):
            return self

        def __next__(self):
            if self.n == 0:
                raise StopIteration
            self.n -= 1
            return self.n

    class Old:
        def __getitem__(self, i):
            if i > 2:
                raise IndexError
            return i

    effects.append(
        (list(Count(3)), [*Old()], tuple(Count(2)), set(Count(2)), 1 in Count(3), 7 in Old())
    )
    effects.append((list(iter(Count(5).__next__, 1)), list(enumerate(Count(2), 1)), max(Count(4))))
    effects.append([type(x).__name__ for x in (map(str, []), zip(), filter(None, []), iter(Old()))])
    for _ in 5:
        pass


@program
def strict_zip(effects):
    return list(zip((x for x in "ab"), (x for x in "abc"), strict=True))


@program
def coroutines(effects):
    class Later:
        def __await__(self):
            effects.append("awaited")
            yield
            return 5

    class Manager:
        async def __aenter__(self):
            return await Later()

        async def __aexit__(self, *args):
            effects.append(args[0] and args[0].__name__)
            return True

    async def numbers():
        for i in range(3):
            yield i
            await asyncio.sleep(0)

    async def main():
        async with Manager() as value:
            effects.append(value)
            raise KeyError
        effects.append([i async for i in numbers() if i])
        async for i in numbers():
            effects.append(i)
            if i:
                break
        results = await asyncio.gather(asyncio.sleep(0, 1), Manager().__aenter__())
        try:
            await asyncio.wait_for(asyncio.sleep(10), 0.001)
        except TimeoutError:
            effects.append("timeout")
        return results

    return asyncio.run(main())


@program
def awaits_nothing(effects):
    async def main():
        await 1

    main().send(None)


@program
def coroutine_twice(effects):
    async def main():
        return 1

    c = main()
    effects.append((inspect.iscoroutine(c), c.cr_code.co_name))
    with contextlib.suppress(StopIteration):
        c.send(None)
    c.send(None)
