"""Every trace that a pass leaves is verified in the tests."""

import os

os.environ.setdefault("FULMEN_VERIFY", "1")  # before fulmen is imported
