"""Change one expression of a module at a time and see whether a test fails. Prints a Markdown table, writes a log.

    python benchmarks/mutation.py coco --log coco.log                 # every mutant; started again, it goes on
    python benchmarks/mutation.py coco --sample 300 --seed 20261129   # some of them

The unit tests of a package (TESTS) run once to see which of them execute which line, and how long each takes. For each
mutant, a fork of this process runs the tests that execute its line until one fails, in the order of seconds per mutant
of the file that they killed so far. The fork exchanges the code of the function; if the mutant is outside of one, or
in one that runs during import, it imports us43d anew instead. A mutant that the log has is not run again: delete its
line for that. `raise` statements, annotations, docstrings, imports and `__all__` are not changed.
"""

import argparse
import ast
import functools
import gc
import importlib.machinery
import itertools
import math
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import forkserver
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import coverage
import pytest

#: First names of the modules that a fork imports anew.
OURS = ("us43d", "tests", "conftest")
ROOT = Path(__file__).resolve().parents[1]
#: Package → its unit tests.
TESTS = {
    "masks": "masks pictures coco/test_write.py evaluate/test_measure.py", "splits": "splits",
    "coco": "coco", "harmonize": "harmonize",
}  # fmt: skip
Swaps = list[tuple[FunctionType, CodeType]]
OPTIONS = ["-q", "-s", "--tb=native", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning",
           "-m", "not slow and not gpu and not web"]  # fmt: skip
OTHER: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div, ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd, ast.LShift: ast.RShift,
    ast.RShift: ast.LShift, ast.Pow: ast.Mult, ast.USub: ast.UAdd, ast.Invert: ast.UAdd,
}  # fmt: skip


def sites(node: ast.AST, lines: range = range(1 << 30), within: bool = False) -> Iterator[tuple[Any, Any, range]]:
    """Yield (node, edit in place, lines of which a test must execute one) of every mutant, in the same order always."""
    if isinstance(node, ast.Raise | ast.Import | ast.ImportFrom):
        return
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
        return
    for edit in edits(node):
        yield node, edit, span(node) if within else lines
    for field, value in ast.iter_fields(node):
        if isinstance(node, ast.FunctionDef) and not within:
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for child in value if isinstance(value, list) else [value]:
            text = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            if isinstance(child, ast.AST) and not text and field not in ("annotation", "returns"):
                yield from sites(child, lines, within or (isinstance(node, ast.FunctionDef) and field == "body"))


def edits(node: Any) -> Iterator[Callable[[], object]]:
    """Yield the changes of one node, each a function that makes it."""
    put = functools.partial(functools.partial, setattr, node)
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            yield functools.partial(node.ops.__setitem__, i, OTHER[type(op)]())
    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp | ast.UnaryOp) and type(node.op) in OTHER:
        yield put("op", OTHER[type(node.op)]())
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield put("operand", ast.UnaryOp(ast.Not(), node.operand))
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield put("value", not node.value)
        elif isinstance(node.value, int | float):
            yield put("value", node.value + 1)
        elif isinstance(node.value, str | bytes):
            yield put("value", ("XX" if isinstance(node.value, str) else b"XX") + node.value)
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        yield put("test", ast.UnaryOp(ast.Not(), node.test))
    if isinstance(node, ast.comprehension):
        for i, test in enumerate(node.ifs):
            yield functools.partial(node.ifs.__setitem__, i, ast.UnaryOp(ast.Not(), test))
    if isinstance(node, ast.Return) and node.value and ast.unparse(node.value) != "None":
        yield put("value", ast.Constant(None))
    if isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Tuple):
        yield put("value", ast.Constant(None))
    if isinstance(node, ast.Call):
        yield from (functools.partial(node.keywords.pop, i) for i in range(len(node.keywords)))


def span(node: Any) -> range:
    """Return the lines that run if the node does."""
    first = node.target if isinstance(node, ast.comprehension) else node
    last = node.ifs[-1] if isinstance(node, ast.comprehension) else node.test if hasattr(node, "test") else node
    return range(first.lineno, last.end_lineno + 1)


class Profile:
    """A pytest plugin: few examples of hypothesis, always the same ones."""

    def pytest_configure(self) -> None:
        import hypothesis  # not sooner: pytest warns

        hypothesis.settings.register_profile(
            "mutation", deadline=None, max_examples=25, derandomize=True, database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        )  # fmt: skip
        hypothesis.settings.load_profile("mutation")


class Driver(Profile):
    """A pytest plugin that runs the collected tests on mutants: `sample` of those of `files`, drawn by `seed`."""

    def __init__(self, files: list[str], log: Path, sample: int | None, seed: int, limit: float) -> None:
        self.total = {file: len(list(sites(ast.parse(Path(file).read_text("utf-8"))))) for file in files}
        self.drawn = [(file, n) for file in files for n in range(self.total[file])]
        if sample is not None:
            self.drawn = random.Random(seed).sample(self.drawn, min(sample, len(self.drawn)))
        self.log, self.limit, self.failed = log, limit, ""
        self.tracer = coverage.Coverage(data_file=None, config_file=False, include=files)
        self.tracer.start()  # before us43d is imported

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed += report.longreprtext if report.failed else ""

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._trace(session.items)
        some = self.drawn[0][0]
        code = compile(Path(some).read_text("utf-8"), some, "exec")
        if self._outcome(some, code, [], self._within(self.seconds))[0] != "survived":
            raise SystemExit("Tests fail in a fork without a mutant.")
        swaps = [(f, f.__code__) for f in self.functions[some]]
        while (result := self._outcome(some, code, swaps, list(self.seconds)))[0] != "survived":
            print("Left out, as it fails in a fork without a mutant:", result[1])
            del self.seconds[result[1]]
        known: dict[tuple[str, ...], list[str]] = defaultdict(list)
        killers: dict[str, Counter[str]] = defaultdict(Counter)
        for line in self.log.read_text("utf-8").splitlines() if self.log.exists() else []:
            outcome, place, *texts, last = line.split("\t")
            killers[str(ROOT / place.split(":")[0])][last] += bool(last)
            if outcome != "unfinished" or self.limit < math.inf:
                known[place, *texts].append(outcome)
        outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        with self.log.open("a", encoding="utf-8") as log:
            for file, number in self.drawn:
                tree = ast.parse(Path(file).read_text("utf-8"))
                node, edit, lines = next(itertools.islice(sites(tree), number, None))
                place, before = f"{Path(file).relative_to(ROOT)}:{span(node)[0]}", ast.unparse(node)
                edit()
                texts = [" ".join(text.split())[:140] for text in (before, ast.unparse(node))]
                if known[place, *texts]:
                    outcomes[file][known[place, *texts].pop(0)] += 1
                    continue
                code = compile(ast.fix_missing_locations(tree), file, "exec")
                tests = {test for line, tests in self.executed[file].items() if line in lines for test in tests}
                during_import = not lines.start or "" in tests
                executing = self.seconds.keys() & tests if lines.start else set()
                order = sorted(executing or (self.seconds if during_import else ()),
                               key=lambda test: (self.costs[test] / (killers[file][test] + 0.1), test))  # fmt: skip
                first = self._within(order)
                swaps = [] if during_import else self._swaps(file, code)
                outcome, killer = self._outcome(file, code, swaps, first) if first else ("not executed", "")
                if outcome == "survived" and len(first) < len(order):
                    outcome = "unfinished"
                outcomes[file][outcome] += 1
                killers[file][killer] += bool(killer)
                print(outcome, place, *texts, killer, sep="\t", file=log, flush=True)
        words = ("killed", "out of time", "survived", "unfinished", "not executed")
        print("\n| module | mutants | run |", " | ".join(words), "|\n|---|--:|--:|", "--:|" * len(words), sep="")
        for file, total in self.total.items():
            cells = [total, outcomes[file].total(), *(outcomes[file][word] for word in words)]
            print(f"| `{Path(file).relative_to(ROOT / 'us43d')}` |", " | ".join(f"{n:,}" for n in cells), "|")
        return True

    def _trace(self, items: list[pytest.Item]) -> None:
        """Run every test without a mutant: file → line → tests that execute it, and each test's CPU seconds."""
        self.items = {item.nodeid: item for item in items}
        self.seconds, self.costs = {}, {}
        for name, item in self.items.items():
            self.tracer.switch_context(name)
            begun = time.process_time()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            if self.failed:
                print(f"Left out, as it fails without a mutant: {name}\n{self.failed}")
            else:
                self.seconds[name] = time.process_time() - begun
            self.failed = ""
        self.tracer.stop()
        forkserver._forkserver._stop()  # a fork cannot use the one of its parent
        variants: Counter[str] = Counter()  # those of one test do about the same
        for name in sorted(self.seconds, key=self.seconds.__getitem__):
            variants[name.partition("[")[0]] += 1
            self.costs[name] = self.seconds[name] * variants[name.partition("[")[0]]
        self.executed = {file: self.tracer.get_data().contexts_by_lineno(file) for file in self.total}
        gc.unfreeze()  # a test that runs the command has frozen what there was, which would not be listed
        self.functions, self.caches = defaultdict(list), []
        for thing in gc.get_objects():
            if type(thing) is FunctionType and thing.__code__.co_filename in self.total:
                self.functions[thing.__code__.co_filename].append(thing)
            elif type(thing) is functools._lru_cache_wrapper and thing.__module__.split(".")[0] in OURS:
                self.caches.append(thing)
        gc.freeze()  # a fork need not look through all that again

    def _within(self, tests: Iterable[str]) -> list[str]:
        """Return the first of these tests, as many as the limit allows."""
        sums = itertools.accumulate(self.seconds[test] for test in tests)
        return [test for test, total in zip(tests, sums, strict=True) if total - self.seconds[test] <= self.limit]

    def _swaps(self, file: str, code: CodeType) -> Swaps:
        """Return the functions that this code of a module changes, and their code; none if it has to be imported."""
        codes = {(one.co_qualname, one.co_firstlineno): one for one in _codes(code)}
        olds = [(f, f.__code__) for f in self.functions[file]]
        swaps = [(f, codes.get((old.co_qualname, old.co_firstlineno), old), old) for f, old in olds]
        same = all(new.co_freevars == old.co_freevars for _, new, old in swaps)
        return [(f, new) for f, new, old in swaps if new != old] if same else []

    def _outcome(self, file: str, code: CodeType, swaps: Swaps, tests: list[str]) -> tuple[str, str]:
        """Run tests in a fork, with this code of a module; returns the outcome and the test that failed."""
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            child = os.fork()
            if child == 0:
                status: int = pytest.ExitCode.INTERNAL_ERROR
                try:
                    resource.setrlimit(resource.RLIMIT_DATA, (8 << 30, 8 << 30))
                    signal.alarm(600)  # asleep
                    for stream in (1, 2):
                        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
                    status = self._swap(swaps, tests, folder) if swaps else self._import(file, code, tests, folder)
                finally:
                    os._exit(status)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            last = Path(folder, "last")
            killer = last.read_text("utf-8") if status and last.exists() else ""
            outcome = {0: "survived", -signal.SIGPROF: "out of time", -signal.SIGALRM: "out of time"}
            return outcome.get(status, "killed"), killer

    def _import(self, file: str, code: CodeType, tests: list[str], folder: str) -> int:
        """Run tests that import everything anew, with this code of a module."""
        signal.setitimer(signal.ITIMER_PROF, 5 + 3 * sum(self.seconds[test] for test in tests))
        for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
            del sys.modules[name]
        loader: Any = importlib.machinery.SourceFileLoader
        read = loader.get_code
        loader.get_code = lambda self, name: code if self.path == file else read(self, name)
        return pytest.main([*OPTIONS, "-x", f"--basetemp={folder}/temp", *tests], plugins=[Profile()])

    def _swap(self, swaps: Swaps, tests: list[str], folder: str) -> int:
        """Run tests with other code of functions."""
        gc.disable()  # it would copy the pages of this process
        for function, code in swaps:
            function.__code__ = code
        for cache in self.caches:
            cache.cache_clear()
        for test, after in itertools.zip_longest(tests, tests[1:]):
            Path(folder, "last").write_text(test, "utf-8")
            signal.setitimer(signal.ITIMER_PROF, 3 + 3 * self.seconds[test])
            signal.alarm(60 + int(100 * self.seconds[test]))
            item, following = self.items[test], self.items.get(after)
            config: Any = item.config
            config._tmp_path_factory._basetemp = Path(folder).resolve()
            config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failed:
                return pytest.ExitCode.TESTS_FAILED
        return pytest.ExitCode.OK


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object and those within."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", choices=TESTS)
    parser.add_argument("modules", nargs="*", help="of the package (default: all)")
    parser.add_argument("--sample", type=int, help="mutants drawn (default: all, in their order)")
    parser.add_argument("--seed", type=int, default=20261129)
    parser.add_argument(
        "--log", type=Path, default=Path("mutation.log"), help="outcome, place, before, after, test that failed"
    )
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="of tests for a mutant; those left are run again without it"
    )
    options = parser.parse_args()
    files = sorted(str(file) for file in (ROOT / "us43d" / options.package).rglob("*.py")
                   if not options.modules or file.stem in options.modules)  # fmt: skip
    driver = Driver(files, options.log, options.sample, options.seed, options.seconds)
    tests = [f"tests/unit/{name}" for name in TESTS[options.package].split()]
    raise SystemExit(pytest.main([*OPTIONS, *tests], plugins=[driver]))


if __name__ == "__main__":
    main()
