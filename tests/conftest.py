"""Every trace that a pass leaves is verified in the tests, which compare bits with eager: without
generated kernels, which round as well as eager, but in other places. tests/codegen has those."""

import os

# Before fulmen is imported.
os.environ.setdefault("FULMEN_VERIFY", "1")
os.environ.setdefault("FULMEN_EXECUTORS", "")
