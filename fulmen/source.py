"""Where in the user's source the program is, while it is traced."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import torch

_NOT_THE_USERS = (str(Path(torch.__file__).parent), str(Path(__file__).parent))


def user_frame() -> types.FrameType | None:
    """The innermost frame outside of PyTorch and Fulmen."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_NOT_THE_USERS):
        frame = frame.f_back
    return frame


def source_suffix() -> str:
    """`  [model.py:41 in forward]`, the user's line that is running, for messages."""
    frame = user_frame()
    if frame is None:
        return ""
    code = frame.f_code
    return f"  [{Path(code.co_filename).name}:{frame.f_lineno} in {code.co_name}]"
