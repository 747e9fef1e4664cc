"""A Django test runner that writes what each test gave to the file that JUDGE names."""

import json
import os
import traceback
import unittest
from pathlib import Path

import judge_names
from django.apps import apps
from django.conf import settings
from django.test import runner

# The worst of several wins: a test with subtests or a failing tearDown reports more than once.
_WORST_LAST = ("passed", "skipped", "expected failure", "unexpected success", "failed", "error")


class Told(Exception):
    """A failure as text: tracebacks and many exceptions cannot cross the pipe of a worker."""


def _told(err):
    text = "".join(traceback.format_exception(*err))
    return Told, Told(text), None


class RemoteResult(runner.RemoteTestResult):
    def addError(self, test, err):
        super().addError(test, _told(err))

    def addFailure(self, test, err):
        super().addFailure(test, _told(err))

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, _told(err))

    def addSubTest(self, test, subtest, err):
        if err is not None:  # a subtest's parameters need not be picklable either
            is_failure = issubclass(err[0], test.failureException)
            told = Told, Told(f"{subtest}\n{_told(err)[1]}"), None
            self.events.append(("addFailure" if is_failure else "addError", self.test_index, told))


class RemoteRunner(runner.RemoteTestRunner):
    resultclass = RemoteResult


class Suite(runner.ParallelTestSuite):
    runner_class = RemoteRunner


class Result(unittest.TextTestResult):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.outcomes = {}

    def note(self, test, outcome, detail=""):
        before, details = self.outcomes.get(test.id(), ("passed", []))
        worst = max(before, outcome, key=_WORST_LAST.index)
        self.outcomes[test.id()] = worst, details + [detail] * bool(detail)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.note(test, "passed")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.note(test, "skipped", reason)

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self.note(test, "expected failure")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.note(test, "unexpected success")

    def addError(self, test, err):
        super().addError(test, err)
        self.note(test, "error", "".join(traceback.format_exception(*err)))

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.note(test, "failed", "".join(traceback.format_exception(*err)))

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            is_failure = issubclass(err[0], test.failureException)
            text = f"{subtest}\n{''.join(traceback.format_exception(*err))}"
            self.note(test, "failed" if is_failure else "error", text)


class Runner(runner.DiscoverRunner):
    parallel_test_suite = Suite

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if settings.DATABASES["default"]["ENGINE"].startswith("howdah."):
            # runtests.py says which apps there are; with our ENGINE there is ours too, and first.
            settings.INSTALLED_APPS = ["howdah.django", *settings.INSTALLED_APPS]
            apps.set_installed_apps(settings.INSTALLED_APPS)
            # A TransactionTestCase names the apps that it sees; ours adds no table.
            shown = apps.set_available_apps
            apps.set_available_apps = lambda available: shown(["howdah.django", *available])

    def get_resultclass(self):
        return Result

    def build_suite(self, *args, **kwargs):
        suite = super().build_suite(*args, **kwargs)  # has imported the tests
        judge_names.install()
        return suite

    def run_suite(self, suite, **kwargs):
        result = super().run_suite(suite, **kwargs)
        path = Path(json.loads(os.environ["JUDGE"])["outcomes"])
        path.write_text(json.dumps(result.outcomes, indent=0, sort_keys=True))
        return result
