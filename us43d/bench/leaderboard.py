"""Results of several models, of one lab or many, in one table: checked, paired, marked, drawn."""

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from us43d import atomic, report
from us43d.bench.definition import digest_of
from us43d.errors import UsageError
from us43d.evaluate.metrics import bootstrap
from us43d.evaluate.protocols import Evaluation
from us43d.evaluate.results import plain

__all__ = ["BOARD", "FILES", "LEGEND", "Board", "merge"]

#: File of a merged table, beside the results of models.
BOARD = "leaderboard.json"
#: Names of the files that `Board.write` writes.
FILES = (BOARD, "table.md", "page.html")

Result = Mapping[str, Any]
_MARKS = {"full": "†", "structure": "‡", "no structure": "", "unknown": "?"}
#: What the marks beside numbers mean.
LEGEND = (
    "† the model was trained on the train split of this source. ‡ it was trained on other sources of the same "
    "structure. ? what it was trained on is not recorded. No mark: it saw none of its structures."
)


class Board:
    """A checked set of results of one definition on the same data."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.results = list(results)
        first = self.results[0]
        self.definition = first["definition"]
        self.sources = sorted(set.intersection(*(set(result["sources"]) for result in self.results)))

    def ranked(self) -> list[tuple[Result, dict[str, float]]]:
        """Results by macro Dice of a box over the common sources, the best first; ties by name."""
        scored = [(result, {source: self._dice(result, source, "box") for source in self.sources})
                  for result in self.results]  # fmt: skip
        return sorted(scored, key=lambda pair: (-float(np.mean(list(pair[1].values()))), pair[0]["model"]["name"]))

    @staticmethod
    def _dice(result: Result, source: str, prompt: str, clicks: int = 0) -> float:
        for entry in result["scores"]:
            if (entry["level"], entry["name"], entry["protocol"], entry["prompt"], entry["clicks"]) == (
                "source", source, "ours", prompt, clicks,
            ):  # fmt: skip
                return float(entry["dice"]["mean"])
        raise UsageError(f"The result of {result['model']['name']} lacks {source} with a {prompt} prompt.")

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """(headings, rows): Dice of box prompts by source, with marks for what a model saw."""
        heads = ["model", "macro Dice, box", *self.sources]
        rows = []
        for result, dice in self.ranked():
            cells = [f"{value:.3f}{_MARKS[result['regimes'][source]]}" for source, value in dice.items()]
            rows.append([result["model"]["name"], f"{np.mean(list(dice.values())):.3f}", *cells])
        return heads, rows

    def protocols(self) -> tuple[list[str], list[list[Any]]]:
        """(headings, rows): mAP of masks pooled over the core tier; macro Dice by number of corrective clicks."""
        clicks = sorted({e["clicks"] for r in self.results for e in r["scores"] if e["protocol"] == "ours"})
        heads = ["model", "UltraSam: box mAP", "UltraSam: centre mAP",
                 *(f"SonoBase: {start} + {n}" for start in ("box", "point") for n in clicks)]  # fmt: skip
        rows = []
        for result, _ in self.ranked():
            pooled = (e for e in result["coco"] if e["source"] == "all" and e["tier"] == "core")
            precision = {e["prompt"]: e["segm"]["map"] for e in pooled}
            cells: list[Any] = [precision.get("box"), precision.get("centre")]
            for start in ("box", "random"):
                for n in clicks:
                    cells.append(float(np.mean([self._dice(result, s, start, n) for s in self.sources])))
            rows.append([result["model"]["name"], *cells])
        return heads, rows

    def paired(self) -> list[dict[str, Any]]:
        """Every model minus the best one, paired by instance: macro mean difference of box Dice with its interval."""
        ranked = self.ranked()
        best = _by_instance(ranked[0][0])
        entries = []
        for result, _ in ranked[1:]:
            own = _by_instance(result)
            common = sorted(key for key in best.keys() & own.keys() if key[1] in self.sources)
            if not common:
                continue
            gap = np.array([own[key][1] - best[key][1] for key in common])
            groups = np.unique([own[key][0] for key in common], return_inverse=True)[1]
            strata = np.unique([key[1] for key in common], return_inverse=True)[1]
            entries.append({"first": result["model"]["name"], "second": ranked[0][0]["model"]["name"],
                            "instances": len(common), "dice": bootstrap(gap, groups, strata)})  # fmt: skip
        return entries

    def data(self) -> dict[str, Any]:
        """leaderboard.json."""
        return {
            "definition": self.definition,
            "sources": {name: self.results[0]["sources"][name] for name in self.sources},
            "models": [
                {"rank": n, **result["model"], "digest": result["digest"], "regimes": result["regimes"], "dice": dice,
                 "failures": result["failures"]["instances"]}
                for n, (result, dice) in enumerate(self.ranked(), 1)
            ],
            "paired": [plain(entry) for entry in self.paired()],
        }  # fmt: skip

    def sections(self) -> Iterator[tuple[str, str]]:
        """(heading, HTML) of the page."""
        missing = sorted(
            set().union(*(set(r["sources"]) | set(r["missing"]) for r in self.results)) - set(self.sources)
        )
        about = [f"Definition {self.definition['name']}-{self.definition['version']}, digest "
                 f"{self.definition['digest'][:12]}. Sources: {', '.join(self.sources)}.",
                 f"Not covered by every result: {', '.join(missing) or 'none'}.", LEGEND]  # fmt: skip
        yield "", "".join(f"<p>{html.escape(line)}</p>" for line in about)
        yield "Dice of box prompts, before the first click", report.table(*self.table())
        yield "Protocols of UltraSam and SonoBase", report.table(*self.protocols())
        yield "Paired differences, macro Dice of box prompts", report.table(*_paired_table(self.paired()))
        for heading, key, names in (("Slices", "slices", ("tier", "slice", "value")),
                                    ("Corruptions", "corruptions", ("corruption", "severity"))):  # fmt: skip
            yield f"{heading}: Dice of box prompts", report.table(*self._by(key, names))
        yield "Failures", report.table(*self._failures())

    def _by(self, key: str, names: Sequence[str]) -> tuple[list[str], list[list[Any]]]:
        models = [result for result, _ in self.ranked()]
        cells: dict[tuple[str, ...], dict[str, str]] = {}
        for result in models:
            for entry in result[key]:
                shown = f"{entry['dice']['mean']:.3f} ({entry['instances']:,})"
                where = tuple(str(entry.get(name, "")) for name in names)
                cells.setdefault(where, {})[result["model"]["name"]] = shown
        heads = [*names, *(result["model"]["name"] for result in models)]
        return heads, [[*where, *(of.get(r["model"]["name"]) for r in models)] for where, of in cells.items()]

    def _failures(self) -> tuple[list[str], list[list[Any]]]:
        heads = ["model", "source", "key", "structure", "Dice"]
        return heads, [
            [result["model"]["name"], case["source"], case["key"], case["structure"], case["dice"]]
            for result, _ in self.ranked()
            for case in result["failures"]["worst"][:10]
        ]

    def markdown(self) -> str:
        parts = [f"# {self.definition['name']}-{self.definition['version']}\n", f"{LEGEND}\n"]
        parts += ["## Dice of box prompts\n", report.markdown(*self.table())]
        parts += ["## Protocols of UltraSam and SonoBase\n", report.markdown(*self.protocols())]
        parts += ["## Paired differences\n", report.markdown(*_paired_table(self.paired()))]
        return "\n".join(parts)

    def write(self, folder: Path, evaluations: Sequence[Evaluation] = ()) -> Path:
        """Write leaderboard.json, table.md and page.html; with evaluations their best and worst cases are drawn."""
        sections = list(self.sections())
        for evaluation in evaluations:
            shown = evaluation.facts["weights"][0]
            sections += [
                (f"{shown}, {head}", report.legend() + report.figures(cases)) for head, cases in evaluation.cases()
            ]
        page = report.page("Benchmark", sections, f"{self.definition['name']}-{self.definition['version']}")
        files = {BOARD: json.dumps(self.data(), indent=1, sort_keys=True, ensure_ascii=False),
                 "table.md": self.markdown(), "page.html": page}  # fmt: skip
        return atomic.write_results(folder, files, "Files of the benchmark that are there are complete.")


def _by_instance(result: Result) -> dict[tuple[int, str], tuple[str, float]]:
    """(annotation, source) → (group, Dice) of box prompts."""
    return {(a, s): (g, d) for a, s, g, prompt, d in result["instances"] if prompt == "box"}


def _paired_table(entries: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    heads = ["model", "minus", "instances", "Dice difference", "95 % interval"]
    return heads, [
        [
            e["first"],
            e["second"],
            e["instances"],
            f"{e['dice'].mean:+.3f}",
            f"{e['dice'].low:+.3f} to {e['dice'].high:+.3f}",
        ]
        for e in entries
    ]


def _content(result: Result) -> str:
    """Return the digest of a result without the version of us43d that computed it."""
    return digest_of({key: value for key, value in result.items() if key not in ("digest", "us43d")})


def merge(results: Sequence[Result]) -> Board:
    """Put results in one table.

    A result that several labs have, such as that of a baseline, counts once; the version of us43d may differ.

    Raises UsageError if they are of several definitions, if a source's build or prompts differ between two of them, if
    two different results are of models with one name, or if they have no source in common.
    """
    if not results:
        raise UsageError("There is no result to merge.", next="us43d bench us43d-1 --weights NAME")
    results = list({_content(result): result for result in reversed(results)}.values())[::-1]
    first = results[0]
    builds: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for result in results:
        name = result["model"]["name"]
        if result["definition"] != first["definition"]:
            ours, theirs = (f"{d['name']}-{d['version']} ({d['digest'][:12]})" for d in
                            (first["definition"], result["definition"]))  # fmt: skip
            raise UsageError(f"Results of different definitions cannot be merged: {ours} and {theirs}.")
        for source, entry in result["sources"].items():
            owner, before = builds.setdefault(source, (name, entry))
            for what in ("build", "prompts"):
                if entry[what] != before[what]:
                    raise UsageError(
                        f"{owner} and {name} were run on different data: the {what} of {source} have digests "
                        f"{before[what][:12]} and {entry[what][:12]}."
                    )
    named: dict[str, Result] = {}
    for result in results:
        name, digest = result["model"]["name"], result["digest"][:12]
        if (other := named.setdefault(name, result)) is not result:
            same = other["model"]["sha256"] == result["model"]["sha256"]
            raise UsageError(
                f"Two different results ({other['digest'][:12]}, {digest}) are of models named {name}, with "
                + ("the same weights." if same else "different weights."),
                next="leave one of them out"
                if same
                else "rename the run or the file of one of them, and run us43d bench with it again",
            )
    board = Board(results)
    if not board.sources:
        raise UsageError("The results have no source in common.")
    return board
