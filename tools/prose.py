"""Count the phrases and names that docs/style.md rules out; fail where a rule has more hits than its baseline.

    python tools/prose.py                  one line per rule: hits, baseline
    python tools/prose.py --show RULE      the lines a rule finds
    python tools/prose.py --lower          write lower numbers into the baseline; it never raises one

Read are docstrings, comments and messages of the Python files (strings with a space in them), the hand-written pages
outside of code, and the text of the local page. Names are those that code binds.
"""

import argparse
import ast
import io
import json
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
BASELINE = Path(__file__).with_name("prose.json")

#: Names that say nothing of what they hold.
NAMES = {
    "past-participle-name": {"found", "said", "drawn", "meant", "taken", "begun", "held", "given", "asked"},
    "pronoun-name": {"each", "part", "there", "it", "those"},
}

#: Rule → what it rules out, as in the table of docs/style.md.
PHRASES = {
    "is-no": r"\b(?:is|are|was|were|be)\s+no\b(?! longer| more than| less)|\b(?:is|are)\s+none\b",
    "has-no-that": r"\b(?:has|have|had) no\b[^.;:\n]{0,60}\bthat\b",
    "ways": r"\bways? (?:worked|to get it)\b|\bits \w+ ways\b",
    "goes-on": r"\b(?:go|goes|went|going) on (?!the\b|a\b)|\b(?:begins?|begun) anew\b",
    "judged": r"\bjudg(?:e|es|ed|ing)\b",
    "is-told": r"\b(?:is|are) told\b|\bsays? so\b",
    "picture": r"\bpictures?\b(?!/|\.\w)",
    "twins": r"\btwins?\b",
    "leaks-left": r"\bleaks? left\b",
    "pulled-together": r"\bpull(?:s|ed)? (?:\w+ ){0,3}together\b|\bheld apart\b|\bheld[ -]out patients\b",
    "left-out": r"\b(?:left|leaves?|leaving) (?:\w+ ){0,2}out\b",
    "of-ours": r"\b(?:of|than) ours\b|\bof one's own\b",
    "too-kind": r"\btoo kind\b",
    "no-number": r"\b(?:becomes?|is|are) no number\b|\bthat is no number\b",
    "cannot-be-meant": r"\bcannot be meant\b|\bwhat is meant\b",
    "may-one": r"\bmay one\b",
    "stands-apart": r"\bstands? (?:apart|beside|in|for|there|alone|on)\b",
    "the-latter": r"\bthe (?:latter|former)\b",
    "inverted": r"(?:^|[.:;] )[Ww]hat (?:is|are|was|were|lies|stands|follows)\b",
    "looked-at": r"\blooked at\b",
    "anybody": r"\b(?:nobody|somebody|whoever)\b",
}
#: Pages that quote the phrases on purpose, or are generated from what is read elsewhere.
SKIPPED = {"docs/style.md", "docs/cli.md"}


class Hit(NamedTuple):
    """A place where a rule applies."""

    rule: str
    path: str
    line: int
    text: str


def phrases(text: str, path: str, line: int) -> Iterator[Hit]:
    """Yield the phrases a text contains, line by line; what stands in backticks is code."""
    for number, row in enumerate(text.split("\n"), start=line):
        prose = re.sub(r"`[^`]*`", "", row)
        for rule, pattern in PHRASES.items():
            for _ in re.finditer(pattern, prose):
                yield Hit(rule, path, number, row.strip())


def python(source: str, path: str) -> Iterator[Hit]:
    """Yield the hits in a Python file: docstrings and messages, comments, and the names it binds."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield from phrases(node.value, path, node.lineno)
        names = {
            ast.Name: lambda n: n.id if isinstance(n.ctx, ast.Store) else None,
            ast.arg: lambda n: n.arg,
        }.get(type(node), lambda n: None)(node)
        for rule, banned in NAMES.items():
            if names in banned:
                yield Hit(rule, path, node.lineno, source.splitlines()[node.lineno - 1].strip())
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield from phrases(token.string, path, token.start[0])


def markdown(source: str, path: str) -> Iterator[Hit]:
    """Yield the hits in a page, without its blocks of code."""

    def blank(block: re.Match[str]) -> str:
        return "\n" * block[0].count("\n")

    text = re.sub(r"^```.*?^```|<!--.*?-->", blank, source, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^(?: {4}|\t).*$", "", text, flags=re.MULTILINE)
    yield from phrases(text, path, 1)


def hits(root: Path = ROOT) -> list[Hit]:
    """Return all hits of the project, by path."""
    collected: list[Hit] = []
    for folder in ("us43d", "recipes", "cli"):
        for file in sorted((root / folder).rglob("*.py")):
            collected += python(file.read_text("utf-8"), file.relative_to(root).as_posix())
    for file in sorted([*root.glob("*.md"), *(root / "docs").glob("*.md")]):
        path = file.relative_to(root).as_posix()
        if path not in SKIPPED | {"CHANGELOG.md"}:
            collected += markdown(file.read_text("utf-8"), path)
    for file in sorted((root / "us43d/view/page").glob("*.html")):
        collected += phrases(file.read_text("utf-8"), file.relative_to(root).as_posix(), 1)
    return collected


def main() -> int:
    """Compare with the baseline; return 1 if a rule has more hits than before."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--show", metavar="RULE", choices=[*PHRASES, *NAMES])
    options.add_argument("--lower", action="store_true")
    chosen = options.parse_args()
    every = hits()
    if chosen.show:
        for hit in every:
            if hit.rule == chosen.show:
                print(f"{hit.path}:{hit.line}: {hit.text}")
        return 0
    baseline = json.loads(BASELINE.read_text("utf-8")) if BASELINE.exists() else {}
    counts = {rule: sum(hit.rule == rule for hit in every) for rule in [*PHRASES, *NAMES]}
    more = [rule for rule, number in counts.items() if number > baseline.get(rule, number)]
    for rule, number in counts.items():
        print(f"{rule:22}{number:6}  (baseline {baseline.get(rule, number)}){'  MORE' if rule in more else ''}")
    if chosen.lower:
        lowered = {rule: min(number, baseline.get(rule, number)) for rule, number in counts.items()}
        BASELINE.write_text(json.dumps(lowered, indent=1) + "\n", "utf-8")
    elif more:
        print(f"New hits of {', '.join(more)}: see docs/style.md, and tools/prose.py --show {more[0]}")
    return bool(more)


if __name__ == "__main__":
    sys.exit(main())
