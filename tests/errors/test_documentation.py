"""docs/errors.md has a section for each id in the sources, and its examples do what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import fulmen

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "errors.md").read_text()
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE, flags=re.M | re.S))
BLOCK = re.compile(r"```python\n(.*?)```", re.S)
EXAMPLES = {id: BLOCK.findall(text) for id, text in SECTIONS.items() if "```" in text}


def ids_in_the_sources() -> set[str]:
    native = r'(?:fail|UserError)\(\s*ErrorKind::k\w+,\s*"([a-z0-9-]+)"'
    found: set[str] = set()
    for path in [*(ROOT / "cpp").rglob("*.cpp"), *(ROOT / "cpp").rglob("*.h")]:
        found |= set(re.findall(native, path.read_text()))
    for path in (ROOT / "fulmen").rglob("*.py"):
        text = path.read_text()
        for match in re.finditer(r"(?:\w*Error|user_error_like)\(", text):
            call = text[match.end() : _closing(text, match.end())]
            last = re.search(r'"([a-z]+(?:-[a-z0-9]+)*)"\s*,?\s*$', call)
            if last and "-" in last[1]:
                found.add(last[1])
    return found


def _closing(text: str, at: int) -> int:
    depth = 1
    while depth and at < len(text):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        at += 1
    return at - 1


def test_every_id_has_a_section() -> None:
    missing = ids_in_the_sources() - set(SECTIONS)
    assert not missing, f"document in docs/errors.md: {sorted(missing)}"


def test_every_section_is_an_id_in_the_sources() -> None:
    stale = set(SECTIONS) - ids_in_the_sources()
    assert not stale, f"no longer in the sources: {sorted(stale)}"


def names() -> dict[str, Any]:
    x = torch.ones(2, 3)
    return {
        "torch": torch, "F": torch.nn.functional, "fulmen": fulmen, "x": x,
        "i": torch.tensor([0, 1]), "b": x > 0, "w": torch.ones(3, requires_grad=True),
    }  # fmt: skip


def run(code: str, traced: bool) -> None:
    """Runs an example; an expression on tensors is traced."""
    scope = names()
    if traced:
        fulmen.trace(lambda: eval(code.strip(), scope))()
    else:
        exec(code, scope)


@pytest.mark.parametrize("id", sorted(EXAMPLES))
def test_examples(id: str) -> None:
    bad, good = EXAMPLES[id]
    traced = "fulmen." not in bad
    torch._dynamo.reset()
    with pytest.raises(fulmen.UserError) as info:
        run(bad, traced)
    assert info.value.id == id, str(info.value)
    run(good, traced)
    if not traced:
        return
    # Eager refuses the first, with a type that the UserError has as well, and runs the other.
    with pytest.raises(Exception) as eager:
        eval(bad.strip(), names())
    assert isinstance(info.value, eager.type), f"eager raises {eager.value!r}"
    eval(good.strip(), names())
