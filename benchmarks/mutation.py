"""Change one expression of a module at a time and see whether a test fails. Prints a Markdown table, writes a log.

    python benchmarks/mutation.py coco --sample 300 --seed 20261129

The unit tests of a package (TESTS) run once to see which of them execute which line, and how long each takes. For each
mutant, a fork of this process imports us43d with it, and runs the tests that execute its line, the fastest first, until
one fails. `raise` statements, annotations, docstrings, imports and `__all__` are not changed.
"""

import argparse
import ast
import functools
import importlib.machinery
import itertools
import os
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import coverage
import pytest
from _pytest.runner import runtestprotocol

ROOT = Path(__file__).resolve().parents[1]
#: Package → its unit tests.
TESTS = {
    "masks": "masks pictures coco/test_write.py", "splits": "splits", "coco": "coco", "harmonize": "harmonize",
}  # fmt: skip
OPTIONS = ["-q", "-s", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning",
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
        )  # fmt: skip
        hypothesis.settings.load_profile("mutation")


class Driver(Profile):
    """A pytest plugin that runs the collected tests on mutants: `sample` of those of `files`, drawn by `seed`."""

    def __init__(self, files: list[str], log: Path, sample: int, seed: int) -> None:
        found = {file: len(list(sites(ast.parse(Path(file).read_text("utf-8"))))) for file in files}
        numbers = [(file, n) for file in files for n in range(found[file])]
        self.drawn = random.Random(seed).sample(numbers, min(sample, len(numbers)))
        self.total, self.log = found, log

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        executed, seconds = self._traced(session.items)
        some = next(iter(self.total))
        if _outcome(some, compile(Path(some).read_text("utf-8"), some, "exec"), [*seconds], 100.0) != "survived":
            raise SystemExit("Tests fail in a fork without a mutant.")
        outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        with self.log.open("w", encoding="utf-8") as log:
            for file, number in self.drawn:
                tree = ast.parse(Path(file).read_text("utf-8"))
                node, edit, lines = next(itertools.islice(sites(tree), number, None))
                before = ast.unparse(node)
                edit()
                code = compile(ast.fix_missing_locations(tree), file, "exec")
                tests = {name for line, names in executed[file].items() if line in lines for name in names}
                tests = tests & seconds.keys() if lines.start else set(seconds)  # a constant may be used anywhere
                order = sorted(tests, key=lambda name: (seconds[name], name))
                outcome = _outcome(file, code, order, sum(seconds[name] for name in order)) if order else "not executed"
                outcomes[file][outcome] += 1
                place = f"{Path(file).relative_to(ROOT)}:{span(node)[0]}"
                texts = (" ".join(text.split())[:140] for text in (before, ast.unparse(node)))
                print(outcome, place, *texts, len(order), sep="\t", file=log, flush=True)
        words = ("killed", "out of time", "survived", "not executed")
        print("\n| module | mutants | run |", " | ".join(words), "|\n|---|--:|--:|", "--:|" * len(words), sep="")
        for file, total in self.total.items():
            cells = [total, outcomes[file].total(), *(outcomes[file][word] for word in words)]
            print(f"| `{Path(file).relative_to(ROOT / 'us43d')}` |", " | ".join(f"{n:,}" for n in cells), "|")
        return True

    def _traced(self, items: list[pytest.Item]) -> tuple[dict[str, dict[int, list[str]]], dict[str, float]]:
        """Run every test without a mutant; returns file → line → tests that execute it, and each test's CPU seconds."""
        tracer = coverage.Coverage(data_file=None, config_file=False, include=list(self.total))
        tracer.set_option("run:disable_warnings", ["already-imported"])
        seconds = {}
        tracer.start()
        for item in items:
            tracer.switch_context(item.nodeid)
            begun = time.process_time()
            if failed := [report for report in runtestprotocol(item, log=False) if report.failed]:
                print(f"Left out, as it fails without a mutant: {item.nodeid}\n{failed[0].longreprtext}")
            else:
                seconds[item.nodeid] = time.process_time() - begun
        tracer.stop()
        return {file: tracer.get_data().contexts_by_lineno(file) for file in self.total}, seconds


def _outcome(file: str, code: Any, tests: list[str], cost: float) -> str:
    """Run tests in a fork, with this code of a module. It has three times the CPU time that they take, and 3 s more."""
    child = os.fork()
    if child == 0:
        signal.setitimer(signal.ITIMER_PROF, 3 + 3 * cost)
        signal.alarm(int(600 + 100 * cost))  # asleep
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        status: int = pytest.ExitCode.INTERNAL_ERROR
        try:
            for name in [name for name in sys.modules if name.split(".")[0] in ("us43d", "tests", "conftest")]:
                del sys.modules[name]
            loader: Any = importlib.machinery.SourceFileLoader
            read = loader.get_code
            loader.get_code = lambda self, name: code if self.path == file else read(self, name)
            status = pytest.main([*OPTIONS, "-x", *tests], plugins=[Profile()])
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {0: "survived", -signal.SIGPROF: "out of time", -signal.SIGALRM: "out of time"}.get(status, "killed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", choices=TESTS)
    parser.add_argument("--sample", type=int, default=300, help="mutants drawn (default: 300)")
    parser.add_argument("--seed", type=int, default=20261129)
    parser.add_argument("--log", type=Path, default=Path("mutation.log"), help="outcome, place, before, after, tests")
    options = parser.parse_args()
    files = sorted(str(file) for file in (ROOT / "us43d" / options.package).rglob("*.py"))
    driver = Driver(files, options.log, options.sample, options.seed)
    tests = [f"tests/unit/{name}" for name in TESTS[options.package].split()]
    raise SystemExit(pytest.main([*OPTIONS, *tests], plugins=[driver]))


if __name__ == "__main__":
    main()
