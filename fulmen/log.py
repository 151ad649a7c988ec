"""Log lines: loggers below `fulmen`, at level INFO.

`FULMEN_LOG=recompile,fallback` in the environment writes them to standard error.
"""

from __future__ import annotations

import logging

from fulmen import _core


def _logger(part: str) -> logging.Logger:
    logger = logging.getLogger(f"fulmen.{part}")
    if _core.logs(part):
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("fulmen: %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    return logger


recompile = _logger("recompile")
"""Why a program did not fit, and what it was specialized for."""
executors = _logger("executors")
"""Who runs what, and why others do not; steps of a bisection."""
fallback = _logger("fallback")
"""What PyTorch runs, and why."""
