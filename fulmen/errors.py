"""Exceptions. Each kind of user error has an id, documented in docs/errors.md."""

from __future__ import annotations


class FulmenError(Exception):
    """Base of everything that Fulmen raises itself.

    Attributes:
        id: the stable name of this kind of error.
    """

    def __init__(self, message: str = "", id: str = "") -> None:
        super().__init__(message)
        self.id = id


class UserError(FulmenError):
    """A mistake in the user's program, input or options.

    What is raised is always a subclass that also derives from the exception type that eager
    PyTorch raises for the same mistake.
    """


class UserRuntimeError(UserError, RuntimeError):
    """A UserError where eager raises RuntimeError."""


class UserTypeError(UserError, TypeError):
    """A UserError where eager raises TypeError."""


class UserValueError(UserError, ValueError):
    """A UserError where eager raises ValueError."""


class UserIndexError(UserError, IndexError):
    """A UserError where eager raises IndexError."""


class UserNotImplementedError(UserError, NotImplementedError):
    """A UserError where eager raises NotImplementedError."""


class DataDependentError(UserRuntimeError):
    """Python control flow, or a Python number, depends on the values of a traced tensor."""


class InternalError(FulmenError, RuntimeError):
    """A mistake of Fulmen's own: please report it."""


class Unsupported(FulmenError):
    """A legal call that no row covers; the front end records it as opaque, or leaves it to eager.

    Users see it only where they asked for `fullgraph=True`.
    """


class SharpEdge(Unsupported):
    """The program does what only the call itself can do, or reads what no guard can see.

    Attributes:
        file, line: where in the user's program.
    """

    def __init__(self, message: str = "", id: str = "", file: str = "", line: int = 0) -> None:
        super().__init__(message, id)
        self.file = file
        self.line = line


class SharpEdgeError(UserRuntimeError):
    """A sharp edge where the user asked for `sharp_edges="error"`."""


class SharpEdgeWarning(UserWarning):
    """A sharp edge where the user asked for `sharp_edges="warn"`."""


def raised_by_executor(error: BaseException, name: str, where: str) -> UserError:
    """What a call raises in which a user's implementation of an operation raised `error`."""
    if isinstance(error, UserError):
        return error
    kind = type(error).__name__
    raised = user_error_like(
        error, f"the implementation of {name}() raised {kind}: {error}{where}", "executor-kernel"
    )
    raised.__cause__ = error
    return raised


def user_error_like(error: BaseException, message: str, id: str) -> UserError:
    """A UserError that is an instance of the built-in exception type that `error` is."""
    for cls in (UserTypeError, UserValueError, UserIndexError, UserNotImplementedError):
        if isinstance(error, cls.__bases__[1]):
            return cls(message, id)
    return UserRuntimeError(message, id)
