"""`fulmen.jit` against eager on every architecture of the zoo, of `transformers` and LitGPT."""

from __future__ import annotations

from typing import Any

import pytest

from zoo import ROWS
from zoo_check import check_calls
from zoo_litgpt import LITGPT, LitGPTRow
from zoo_row import Row

# Name of a row → why it does not work yet. A row that is listed here and passes is a failure.
KNOWN: dict[str, str] = {
    "paligemma": "transformers itself leaves out another mask under torch.compiler.is_compiling()",
}


def _marked(row: Row | LitGPTRow) -> Any:
    reason = KNOWN.get(row.name)
    marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
    return pytest.param(row, marks=marks, id=row.name)


@pytest.mark.parametrize("row", [_marked(row) for row in [*ROWS, *LITGPT]])
def test_row(row: Row | LitGPTRow, jit_front_end: Any) -> None:
    check_calls(row.build, row.calls(), jit_front_end)


def test_names() -> None:
    names = [row.name for row in [*ROWS, *LITGPT]]
    assert len(set(names)) == len(names)
    assert set(KNOWN) <= set(names)
