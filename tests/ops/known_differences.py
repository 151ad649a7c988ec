"""What may differ from eager in PyTorch's operator database, and why."""

from __future__ import annotations

import re
from typing import Any

# (entry, check, the result's reason), as regular expressions that match the whole text → why.
KNOWN: list[tuple[str, str, str, str]] = []


def reason_of(name: str, result: Any) -> str | None:
    """Why this failure is known, or None."""
    for entry, check, reason, why in KNOWN:
        if (
            re.fullmatch(entry, name)
            and re.fullmatch(check, result.check)
            and re.match(reason, result.reason)
        ):
            return why
    return None
