"""Checks that dependencies point down.

A folder of cpp/ includes only itself and folders before it in LAYERS; Python.h and PyTorch's
headers are seen only by the folders that are allowed to. In fulmen/ every import of the package
stands at the top of its file, and no chain of imports leads back to its start.
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAYERS = (  # lowest first
    "support", "kernels", "ir", "ops", "analysis", "passes", "codegen", "exec", "py", "interp",
    "bridge", "bindings", "jit", "module",
)  # fmt: skip
SEES_PYTHON = {"py", "interp", "bridge", "bindings", "jit", "module"}
SEES_TORCH = {"bridge"}

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.MULTILINE)
PYTHON_HEADER = re.compile(
    r"^(Python\.h|frameobject\.h|structmember\.h|nanobind/|cpython/|internal/)"
)
TORCH_HEADER = re.compile(r"^(torch|ATen|c10|caffe2)/")


def check_cpp(root: Path) -> list[str]:
    errors = []
    for path in sorted((root / "cpp").rglob("*")):
        if path.suffix not in (".h", ".cpp"):
            continue
        layer = path.relative_to(root / "cpp").parts[0]
        where = path.relative_to(root)
        if layer not in LAYERS:
            errors.append(f"{where}: {layer}/ is not in the list of layers")
            continue
        text = path.read_text()
        for match in INCLUDE.finditer(text):
            line = text.count("\n", 0, match.start(2)) + 1
            reason = include_error(layer, match[2], quoted=match[1] == '"')
            if reason:
                errors.append(f"{where}:{line}: {reason}")
    return errors


def include_error(layer: str, header: str, *, quoted: bool) -> str | None:
    if PYTHON_HEADER.match(header) and layer not in SEES_PYTHON:
        return f"{layer}/ must not see Python ({header})"
    if TORCH_HEADER.match(header) and layer not in SEES_TORCH:
        return f"{layer}/ must not see PyTorch's headers ({header})"
    if not quoted:
        return None
    target = header.split("/")[0]
    if "/" not in header or target not in LAYERS:
        return f'"{header}" is not a path from cpp/'
    if LAYERS.index(target) > LAYERS.index(layer):
        return f"{layer}/ must not include {target}/ ({header})"
    return None


def check_python(root: Path) -> list[str]:
    package = root / "fulmen"
    modules = {module_name(root, path): path for path in sorted(package.rglob("*.py"))}
    errors = []
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        tree = ast.parse(path.read_text(), str(path))
        top = {id(node) for node in top_level(tree)}
        typing_only = {id(n) for guard in typing_blocks(tree) for n in ast.walk(guard)}
        graph[name] = set()
        for node in ast.walk(tree):
            if id(node) in typing_only:
                continue
            for target in imported(node, name, is_package=path.name == "__init__.py"):
                if id(node) not in top:
                    where = f"{path.relative_to(root)}:{node.lineno}"
                    errors.append(f"{where}: {target} is imported inside a function")
                graph[name].add(closest_module(target, modules))
    errors += [f"imports lead back to their start: {' -> '.join(c)}" for c in cycles(graph)]
    return errors


def module_name(root: Path, path: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def top_level(tree: ast.Module) -> list[ast.stmt]:
    """The statements that run when the module is imported."""
    found, todo = [], list(tree.body)
    while todo:
        node = todo.pop()
        found.append(node)
        for field in ("body", "orelse", "finalbody", "handlers"):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                todo += getattr(node, field, [])
    return found


def typing_blocks(tree: ast.Module) -> list[ast.If]:
    """Blocks that only type checkers read: what they import is no dependency."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    ]


def imported(node: ast.AST, importer: str, *, is_package: bool) -> list[str]:
    """What of the package an import statement names, as far as it may be a module."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = importer.split(".")
            parent = parts[: len(parts) - node.level + is_package]
            base = ".".join(parent + ([node.module] if node.module else []))
        names = [f"{base}.{alias.name}" for alias in node.names]
    else:
        return []
    return [name for name in names if name.split(".")[0] == "fulmen"]


def closest_module(name: str, modules: dict[str, Path]) -> str:
    while name not in modules and "." in name:
        name = name.rpartition(".")[0]
    return name


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """One cycle for each module that closes one; importing one's own package is none."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
            return
        if name in done:
            return
        for target in sorted(graph.get(name, ())):
            if target != name and not name.startswith(target + "."):
                visit(target, [*path, name])
        done.add(name)

    for name in sorted(graph):
        visit(name, [])
    return found


def main() -> int:
    errors = check_cpp(ROOT) + check_python(ROOT)
    for error in errors:
        print(error)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
