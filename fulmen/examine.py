"""Looking at compiled functions: which executor runs what, and which rewrite broke a result."""

from __future__ import annotations

from fulmen.bisection import Culprit, bisect
from fulmen.claims import Claim, Claims, executors

__all__ = ["Claim", "Claims", "Culprit", "bisect", "executors"]
