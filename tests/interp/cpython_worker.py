"""Runs one of CPython's own test files, each test's body natively or on Fulmen's interpreter.

A process of its own, on the Python under test, with nothing but the standard library:

    python cpython_worker.py MODE MODULE_DIR RESULT TEST_MODULE [PATTERN...]

MODE is `native` or `emulate`; MODULE_DIR holds the extension `_interp`. RESULT gets one JSON line
a test as soon as it is done, so that a crash loses only the test that crashed.
"""

import faulthandler
import importlib
import json
import sys
import time
import traceback
import unittest


class Recorder(unittest.TestResult):
    """Writes what becomes of each test to a file."""

    def __init__(self, stream):
        super().__init__()
        self.stream = stream
        self.began = 0.0
        self.outcome = ""
        self.detail = ""

    def write(self, **fields):
        print(json.dumps(fields), file=self.stream, flush=True)

    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()
        self.outcome, self.detail = "passed", ""
        self.write(id=test.id(), event="start")

    def stopTest(self, test):
        super().stopTest(test)
        seconds = round(time.monotonic() - self.began, 3)
        fields = {"id": test.id(), "outcome": self.outcome, "seconds": seconds}
        if self.detail:
            fields["detail"] = self.detail
        self.write(**fields)

    def note(self, outcome, error):
        self.outcome = outcome
        try:
            self.detail += "".join(traceback.format_exception(*error, limit=-6))[-3000:]
        except Exception as failure:
            self.detail += f"{error[0]!r} (cannot be printed: {failure!r})"

    def addError(self, test, err):
        self.note("error", err)

    def addFailure(self, test, err):
        self.note("failed", err)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.detail += f"[{subtest._subDescription()}] "
            self.note("failed", err)

    def addSkip(self, test, reason):
        self.outcome, self.detail = "skipped", str(reason)

    def addExpectedFailure(self, test, err):
        self.outcome = "expected failure"

    def addUnexpectedSuccess(self, test):
        self.outcome = "unexpected success"


def interpret_bodies(module_dir):
    sys.path.insert(0, module_dir)
    import _interp

    interpret = _interp.interpret
    # Tests look at the frames that call them: it has to be a function of unittest's.
    namespace = vars(unittest.case)
    namespace["_interpret"] = interpret
    exec("def _callTestMethod(self, method): _interpret(method)", namespace)
    unittest.TestCase._callTestMethod = namespace.pop("_callTestMethod")

    def call_async_test_method(self, method):
        self._callMaybeAsync(lambda: interpret(method))

    unittest.IsolatedAsyncioTestCase._callTestMethod = call_async_test_method


def tests_of(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from tests_of(test)
        else:
            yield test


def main():
    mode, module_dir, result, name, *patterns = sys.argv[1:]
    faulthandler.enable()
    from test import support

    support.verbose = 0
    support.use_resources = ["cpu"]
    sys.argv = [name]
    module = importlib.import_module(name)
    loader = unittest.TestLoader()
    if patterns:
        loader.testNamePatterns = [p if "*" in p else f"*{p}*" for p in patterns]
    suite = loader.loadTestsFromModule(module)
    if mode == "emulate":
        interpret_bodies(module_dir)
    with open(result, "w") as stream:
        recorder = Recorder(stream)
        suite(recorder)
        recorder.write(event="end")


if __name__ == "__main__":
    main()
