"""The verb that shows everything at once: the main job on specimens, offline and without a GPU, ending in a report."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from us43d import __version__, registry
from us43d.contract import Recipe
from us43d.errors import CheckError

from .build import build_one
from .errors import Interrupted
from .options import Jobs, Names, by_default, workers
from .output import Session
from .select import chosen
from .verb import verb

if TYPE_CHECKING:
    from us43d.evaluate.results import Evaluation
    from us43d.harmonize.corpus import Corpus
    from us43d.train.loop import Result

SIMULATED = (
    "All images on this page are simulated: speckle with shapes drawn into it, in the file formats of the published "
    "sources. The model has learnt to follow these shapes. The numbers show that every step works; they say nothing "
    "about real ultrasound."
)


@verb(
    "demo",
    panel="Start here",
    kept="Files in the folder of the demo are kept; the same command restarts.",
    examples=("us43d demo", "us43d demo BUSI CAMUS EchoNet-Dynamic --fast", "us43d demo --folder ~/us43d-demo"),
)
def demo(
    session: Session,
    names: Names = None,
    folder: Annotated[Path, typer.Option(help="Output folder; --home is not used.")] = Path("demo"),
    fast: Annotated[
        bool, typer.Option("--fast", help="Fewer images and steps: some minutes, and a weaker model.")
    ] = False,
    jobs: Jobs = None,
) -> None:
    """Run every step on synthetic data, offline: fetch, build, check, splits, train, eval, predict.

    Writes one HTML report.
    """
    from us43d.fetch import fetch as fetching
    from us43d.harmonize.check import check
    from us43d.harmonize.merge import merge
    from us43d.splits.proof import prove

    recipes = chosen(names, None, "demo", session.home) if names else by_default(registry.recipes(), ())[0]
    session.home = type(session.home)((folder / "home").absolute())
    began = time.monotonic()
    with _step(session, f"fetch: specimens of {len(recipes)} sources"):
        for recipe in recipes:
            make = registry.specimen(recipe.slug)
            fetching.fetch_specimen(recipe, make, session.home, scale=1 if fast else 3, bars=session.progress)
    with _step(session, "build: COCO shards, manifests, splits"):
        outcomes = [build_one(session, recipe, "us43d", partial=False, jobs=workers(jobs)) for recipe in recipes]
    builds = [Path(outcome.data["path"]) for outcome in outcomes]
    with _step(session, "check: everything recomputed from the output"):
        problems = [problem for path in builds for problem in check(path, jobs=workers(jobs))]
        if problems:
            raise CheckError(f"{len(problems)} problems in the builds, the first: {problems[0]}.")
    with _step(session, "corpus and proof of its splits"):
        corpus = merge(builds, session.home.root, "demo")
        proof = prove(_rows(builds))
        if not proof.sound:
            raise CheckError(f"The splits are not disjoint: {'; '.join(proof.lines())}.")
    with _step(session, "train: us43d-small, fine-tuned"):
        result = _train(session, corpus, fast)
    with _step(session, "eval: held-out groups"):
        evaluation = _evaluate(session, corpus, result, fast)
    page = folder / "report.html"
    with _step(session, "predict and report"):
        page.write_text(_report(recipes, corpus, proof.lines(), result, evaluation, time.monotonic() - began), "utf-8")
        evaluation.write(folder / "eval")
    scores = _dice(evaluation)
    model, ellipse = scores["model"], scores["ellipse"]
    summary = (
        f"box-prompt Dice on {scores['groups']} held-out groups: model {model:.3f}, inscribed ellipse {ellipse:.3f} "
        f"(mean of sources: {scores['model_macro']:.3f}, {scores['ellipse_macro']:.3f})"
    )
    data = {
        "report": page.absolute(), "images": len(corpus), "annotations": len(corpus.annotations), "steps": result.step,
        "dice": scores, "seconds": round(time.monotonic() - began, 1), "corpus": corpus.digest,
    }  # fmt: skip
    session.answer(data, summary, f"report: {page.absolute()}")
    if model <= ellipse:
        longer = "train longer without --fast" if fast else "more steps improve it: us43d train --help"
        session.warn(f"The model is not better than the inscribed ellipse of its box yet; {longer}.")


@contextmanager
def _step(session: Session, what: str) -> Iterator[None]:
    began = time.monotonic()
    session.say(f"{what} …")
    yield
    session.say(f"  {time.monotonic() - began:.1f} s")


def _rows(builds: list[Path]) -> Iterator[dict[str, Any]]:
    from us43d.harmonize.built import Build

    for path in builds:
        for row in Build(path).rows:
            yield row | {"source": path.parent.name}


def _train(session: Session, corpus: "Corpus", fast: bool) -> "Result":
    import shutil

    from us43d.model import weights
    from us43d.train.config import finetuning
    from us43d.train.loop import train

    run = session.home.runs / "demo"
    shutil.rmtree(run, ignore_errors=True)
    start = weights.shipped()
    config = finetuning(weights.load(start).config).model_copy(update={"balance": "structure"})
    if fast:
        config = config.shortened(60)
    with session.progress("train", "steps") as move:
        result = train(config, corpus, run, init=start, progress=move)
    if result.stopped:
        raise Interrupted
    return result


def _evaluate(session: Session, corpus: "Corpus", result: "Result", fast: bool) -> "Evaluation":
    from us43d.evaluate.protocols import evaluate
    from us43d.model.predictor import Predictor

    with session.progress("eval") as move:
        return evaluate(
            Predictor.from_weights(result.weights),
            corpus,
            prompts=("box", "centre"),
            clicks=(0, 1, 3),
            limit=60 if fast else 200,
            progress=move,
        )


def _dice(evaluation: "Evaluation") -> dict[str, Any]:
    """Mean Dice over the instances of exact boxes without clicks, of the model and of the baseline."""
    from us43d.evaluate.results import BASELINE

    rows = evaluation.rows
    rows = rows[(rows["prompt"] == "box") & (rows["clicks"] == 0)]
    own = rows["weights"] == BASELINE
    means = rows.groupby(["source", own], observed=True)["dice"].mean().groupby(level=1).mean()
    return {
        "model": float(rows["dice"][~own].mean()),
        "ellipse": float(rows["dice"][own].mean()),
        "model_macro": float(means[False]),
        "ellipse_macro": float(means[True]),
        "instances": int((~own).sum()),
        "groups": int(rows["group"].nunique()),
    }


def _report(
    recipes: list[Recipe],
    corpus: "Corpus",
    proof: list[str],
    result: "Result",
    evaluation: "Evaluation",
    seconds: float,
) -> str:
    from us43d import report

    scores = _dice(evaluation)
    built = {
        source["name"]: source["counts"]
        | {"groups": len(set(corpus.images["group"][corpus.images["source"] == number]))}
        for number, source in enumerate(corpus.sources)
    }
    heads = ("source", "organ", "images", "annotations", "groups", "dropped", "licence of the real data")
    table = [
        (r.name, r.organ, *(built[r.name][n] for n in ("images", "annotations", "groups", "dropped")), r.licence.id)
        for r in recipes
    ]
    verdict = [
        (name, scores[who], scores[f"{who}_macro"], scores["instances"], scores["groups"])
        for name, who in (("the model, one box", "model"), ("ellipse baseline (no image)", "ellipse"))
    ]
    facts = corpus.facts["images"]
    summary = (
        f"{len(recipes)} sources, {len(corpus):,} images ({facts['train']} train, {facts['val']} val, {facts['test']} "
        f"test, {facts['excluded']} excluded), {len(corpus.annotations):,} annotations, {result.step} steps"
    )
    sections = [
        ("", f"<p>{SIMULATED}</p><p>{summary}, {seconds / 60:.1f} minutes in all.</p>"),
        (
            "Does it learn?",
            report.table(("Dice on held-out groups", "mean", "mean of sources", "instances", "groups"), verdict),
        ),
        ("Learning curve", report.curve([*result.curve, *result.validation])),
        *((head, report.legend() + report.figures(cases)) for head, cases in evaluation.cases(4)),
        ("Images built", report.legend(("truth",)) + report.figures(_shown(corpus))),
        ("Splits", "".join(f"<p>{line}</p>" for line in proof)),
        ("Dice by structure", report.table(*evaluation.table("structure"))),
        ("All metrics", report.table(*evaluation.table())),
        ("Sources", report.table(heads, table)),
    ]
    return report.page("us43d demo", sections, f"us43d {__version__}, corpus {corpus.digest[:12]}")


def _shown(corpus: "Corpus") -> Iterator[Any]:
    """Yield one annotated image of every source, with its outlines."""
    import numpy as np

    from us43d import report

    for number, source in enumerate(corpus.sources):
        rows = np.flatnonzero((corpus.images["source"] == number) & (corpus.images["count"] > 0))
        if len(rows):
            image = int(rows[0])
            truth = np.logical_or.reduce([corpus.mask(row) for row in corpus.of(image)])
            pixels = report.overlay(corpus.picture(image), {"truth": truth})
            yield report.Figure(report.picture(pixels, source["name"]), f"{source['name']}: {corpus.key(image)}")
