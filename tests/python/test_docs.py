"""The Python in README.md and docs/ runs, top to bottom of a page, and its assertions hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
# docs/errors.md has a test of its own.
PAGES = ["README.md", "docs/jit.md", "docs/add_a_pass.md", "docs/executors.md"]


@pytest.mark.parametrize("page", PAGES)
def test_examples_run(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / page).read_text()
    blocks = list(BLOCK.finditer(text))
    assert blocks
    monkeypatch.chdir(ROOT)
    scope: dict[str, Any] = {"__name__": "example"}
    for block in blocks:
        # Blank lines before it, so that a failure names the line of the page.
        lines = text[: block.start(1)].count("\n")
        exec(compile("\n" * lines + block[1], str(ROOT / page), "exec"), scope)


def test_the_plugin_of_the_documentation_is_the_example() -> None:
    page = (ROOT / "docs" / "executors.md").read_text()
    block = re.search(r"^```cpp\n(.*?)^```", page, re.M | re.S)
    assert block and block[1] == (ROOT / "examples" / "silu_plugin.cpp").read_text()


def test_the_pass_of_the_documentation_is_the_one_that_is_tested() -> None:
    page = (ROOT / "docs" / "add_a_pass.md").read_text()
    source = "".join((ROOT / "tests" / "cpp" / "example_pass_test.cpp").read_text().split())
    blocks = re.findall(r"^```cpp\n(.*?)^```", page, re.M | re.S)
    assert len(blocks) == 3
    for block in blocks:
        assert "".join(block.split()) in source
