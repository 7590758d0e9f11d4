"""Running a benchmark: one result per model, signed by its digest.

A result holds no time and no machine, so that two runs of one model on one corpus give the same bytes.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import us43d
from us43d import atomic
from us43d.bench.corruptions import Corrupted
from us43d.bench.definition import Definition, digest_of
from us43d.bench.leaderboard import BOARD
from us43d.bench.models import Entry
from us43d.bench.slices import failures, slices
from us43d.errors import SplitError, UsageError, listed
from us43d.evaluate.metrics import bootstrap
from us43d.evaluate.protocols import Evaluation, evaluate
from us43d.evaluate.results import BASELINE, plain
from us43d.harmonize.corpus import SPECK, SPLITS, Corpus
from us43d.harmonize.shards import canonical_json
from us43d.splits import pinned
from us43d.train.journal import group_hash, image_hash

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Progress", "results_in", "run", "verified", "write"]

Progress = Callable[[str, int, int | None], None]


def run(
    definition: Definition, corpus: Corpus, models: Mapping[str, Entry], progress: Progress | None = None
) -> tuple[list[dict[str, Any]], list[Evaluation]]:
    """Run models on the sources of a definition that the corpus holds.

    Returns:
        (a result per model, for `write`; the evaluations of the core and of the external tier, for the page).

    Raises:
        UsageError: If the corpus has none of the sources, or synthetic ones where published ones are meant.
        SplitError: If the corpus tests on other images than the definition, or a model was trained on test groups.
    """
    core, external = _present(definition, corpus)
    core, external = ([name for name in names if _instances_of(corpus, name, split)] for names, split in
                      ((core, "test"), (external, "all")))  # fmt: skip
    if not core and not external:
        raise UsageError(f"No source of {definition.label} has a test instance in the corpus {corpus.path.name}.")
    _same_tests(definition, corpus, core)
    tests = {name: _groups(corpus, name, whole=name in external) for name in (*core, *external)}
    for name, entry in models.items():
        _not_poisoned(name, entry, tests, external)
    _no_test_image_seen(corpus, models, {name: "all" if name in external else "test" for name in tests})
    segmenters = {name: entry.segmenter for name, entry in models.items()}

    def told(what: str) -> Callable[[int, int | None], None] | None:
        return None if progress is None else lambda done, of: progress(what, done, of)

    options: dict[str, Any] = {"protocol": "both", "prompts": definition.prompts, "clicks": definition.clicks,
                               "refine": definition.refine, "seed": definition.seed}  # fmt: skip
    evaluations = [
        evaluate(segmenters, corpus, split=split, sources=names, progress=told(tier), **options)
        for tier, split, names in (("core", "test", core), ("external", "all", external))
        if names
    ]
    corrupted = {
        (kind, severity): evaluate(
            segmenters, Corrupted(corpus, kind, severity), split="test" if core else "all", sources=core or external,
            protocol="ours", prompts=("box",), clicks=(0,), refine=definition.refine, seed=definition.seed,
            limit=definition.corrupted_images, progress=told(f"{kind} {severity}"),
        )
        for kind in definition.corruptions
        for severity in definition.severities
    }  # fmt: skip
    common = {
        "definition": {"name": definition.name, "version": definition.version, "digest": definition.digest},
        "us43d": us43d.__version__,
        "sources": {
            name: {"build": _source(corpus, name)["digest"], "prompts": _prompts(evaluations, name),
                   "tier": "core" if name in core else "external"}
            for name in (*core, *external)
        },
        "missing": sorted({*definition.core, *definition.external} - {*core, *external}),
    }  # fmt: skip
    return [
        _result(name, entry, common, corpus, definition, evaluations, corrupted) for name, entry in models.items()
    ], evaluations


# ------------------------------------------------------------------------------------------------------- what is tested


def _source(corpus: Corpus, name: str) -> dict[str, Any]:
    return next(source for source in corpus.sources if source["name"] == name)


def _present(definition: Definition, corpus: Corpus) -> tuple[list[str], list[str]]:
    """The sources of both tiers that the corpus has. Raises UsageError."""
    here = {source["name"]: bool(source.get("specimen")) for source in corpus.sources}
    core, external = ([name for name in names if name in here] for names in (definition.core, definition.external))
    if not core and not external:
        wanted = listed([*definition.core, *definition.external], 30)
        raise UsageError(
            f"The corpus {corpus.path.name} has no source of {definition.label}: {wanted}.", next="us43d build --all"
        )
    if wrong := [name for name in (*core, *external) if here[name] != (definition.data == "specimen")]:
        kind = "synthetic sample datasets" if definition.data == "published" else "not synthetic"
        raise UsageError(
            f"{definition.label} is defined on {definition.data} data, but {listed(wrong)} of the corpus are {kind}.",
            next=f"us43d bench {'specimens-1' if definition.data == 'published' else 'us43d-1'} --help",
        )
    return core, external


def _instances_of(corpus: Corpus, name: str, split: str) -> int:
    """How many instances a source is tested on; specks do not count."""
    number = [source["name"] for source in corpus.sources].index(name)
    image = corpus.annotations["image"]
    splits = range(3) if split == "all" else (SPLITS.index(split),)
    inside = (corpus.images["source"] == number) & np.isin(corpus.images["split"], list(splits))
    return int(np.count_nonzero(inside[image] & (corpus.annotations["flags"] & SPECK == 0)))


def _same_tests(definition: Definition, corpus: Corpus, core: Sequence[str]) -> None:
    """Raises SplitError if a source tests on other images than its pinned split says."""
    for name in core:
        if definition.core[name] is None:
            continue
        source = _source(corpus, name)
        slug = source["slug"]
        if pinned.index()["sources"].get(slug, {}).get("sha256") != definition.core[name]:
            raise SplitError(f"{definition.label} pins another split of {name} than this version of us43d has.")
        if source.get("partial"):
            raise SplitError(
                f"The build of {name} is partial; {definition.label} needs the whole source.",
                next=f"us43d build {name}",
            )
        wanted = {key for key, split in pinned.split(slug, "us43d").items() if split == "test"}
        number = corpus.facts["sources"].index(source)
        rows = np.flatnonzero((corpus.images["source"] == number) & (corpus.images["split"] == SPLITS.index("test")))
        name_of = corpus.group if slug in pinned.GROUPS_ONLY else corpus.key
        if extra := sorted({name_of(int(row)) for row in rows} - wanted):
            raise SplitError(
                f"The corpus tests {name} on {len(extra)} images or groups outside of the pinned test split, such as "
                f"{extra[0]!r}.",
                next=f"us43d check {name}",
            )


def _groups(corpus: Corpus, name: str, *, whole: bool) -> set[str]:
    """Hashes of the groups a source is tested on."""
    number = [source["name"] for source in corpus.sources].index(name)
    splits = range(3) if whole else (SPLITS.index("test"),)
    rows = np.flatnonzero((corpus.images["source"] == number) & np.isin(corpus.images["split"], list(splits)))
    return {group_hash(name, corpus.group(int(row))) for row in rows}


def _not_poisoned(name: str, entry: Entry, tests: Mapping[str, set[str]], external: Sequence[str]) -> None:
    """Raises SplitError if a model was trained on what it would be tested on."""
    trained = set(entry.seen["groups"])
    for source, groups in tests.items():
        if shared := len(groups & trained):
            raise SplitError(
                f"{name} was trained on {shared} of the {len(groups)} test groups of {source}. It is refused.",
                next="us43d train --preset small --run NEW_NAME   (trains on the train split alone)",
            )
    if broken := [source for source in external if source in entry.seen["sources"]]:
        raise SplitError(f"{name} was trained on {listed(broken)}, which the external tier keeps for tests alone.")


def _no_test_image_seen(corpus: Corpus, models: Mapping[str, Entry], splits: Mapping[str, str]) -> None:
    """Raise SplitError if a model was trained on a copy of a test image, under whatever name.

    Reads the test images only if a model was trained on a user's own data. splits: source → split it is tested on.
    """
    trained = {name: set(entry.seen.get("images", ())) for name, entry in models.items()}
    if not any(trained.values()):
        return
    names = [source["name"] for source in corpus.sources]
    for source, split in splits.items():
        inside = np.isin(corpus.images["split"], range(3) if split == "all" else [SPLITS.index(split)])
        rows = np.flatnonzero((corpus.images["source"] == names.index(source)) & inside)
        tested = {image_hash(corpus.picture(int(row))) for row in rows}
        for name, images in trained.items():
            if shared := len(tested & images):
                raise SplitError(
                    f"{name} was trained on {shared} of the {len(tested)} test images of {source}, in data of one's "
                    "own. It is refused.",
                    next="us43d train --preset small --run NEW_NAME   (trains on the train split alone)",
                )


def _prompts(evaluations: Sequence[Evaluation], source: str) -> str:
    """Digest of every prompt a source was tested with: annotation, way, and the point or box."""
    digest = hashlib.sha256()
    for evaluation in evaluations:
        corpus, rows = evaluation.corpus, evaluation.rows
        assert corpus is not None
        own = rows[(rows["source"] == source) & (rows["clicks"] == 0) & (rows["weights"] != BASELINE)]
        own = own.astype({"protocol": str, "prompt": str}).drop_duplicates(["annotation", "protocol", "prompt"])
        boxes = {int(a["id"]): a["bbox"].tolist() for a in corpus.annotations[np.isin(corpus.annotations["id"],
                 own["annotation"])]}  # fmt: skip
        for row in own.sort_values(["annotation", "protocol", "prompt"]).to_dict("records"):
            point = None if row["prompt"] == "box" else [round(float(row["x"]), 3), round(float(row["y"]), 3)]
            annotation = int(row["annotation"])
            place = boxes[annotation] if point is None else point
            digest.update(canonical_json([annotation, row["protocol"], row["prompt"], place]))
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------------------------- results


def _result(
    name: str,
    entry: Entry,
    common: Mapping[str, Any],
    corpus: Corpus,
    definition: Definition,
    evaluations: Sequence[Evaluation],
    corrupted: Mapping[tuple[str, int], Evaluation],
) -> dict[str, Any]:
    boxes = [_boxes(evaluation.rows, name) for evaluation in evaluations]
    summary = [e for evaluation in evaluations for e in evaluation.summary if e["weights"] == name]
    result = dict(common) | {
        "model": {"name": name, "kind": entry.kind, "sha256": entry.digest,
                  "seen": {"sources": sorted(entry.seen["sources"]), "complete": bool(entry.seen["complete"])}},
        "regimes": {source: _regime(entry, corpus, evaluations, source) for source in common["sources"]},
        "scores": [plain({key: value for key, value in entry_.items() if key != "weights"})
                   for entry_ in summary if entry_["level"] in ("macro", "source")],
        "coco": [plain(e) | {"tier": _tier(evaluation)} for evaluation in evaluations for e in evaluation.coco
                 if e["weights"] == name],
        "measurements": [plain(e) for evaluation in evaluations for e in evaluation.agreements
                         if e["weights"] == name],
        "slices": [entry_ | {"tier": _tier(evaluation)} for evaluation, rows in zip(evaluations, boxes, strict=True)
                   for entry_ in slices(rows, corpus, definition.seed)],
        "corruptions": [_corruption(kind, severity, evaluation, name, definition.seed)
                        for (kind, severity), evaluation in corrupted.items()],
        "failures": {"below": definition.failure,
                     "instances": sum(int((rows["dice"] < definition.failure).sum()) for rows in boxes),
                     "worst": [case for rows in boxes for case in failures(rows, definition.failure)]},
        "instances": [row for evaluation in evaluations for row in _instances(evaluation.rows, name)],
    }  # fmt: skip
    return result | {"digest": digest_of(result)}


def _tier(evaluation: Evaluation) -> str:
    return "core" if evaluation.facts["split"] == "test" else "external"


def _boxes(rows: "pd.DataFrame", name: str) -> "pd.DataFrame":
    """One row per instance: box prompt of our protocol, before the first click."""
    return rows[(rows["weights"] == name) & (rows["protocol"] == "ours") & (rows["prompt"] == "box")
                & (rows["clicks"] == 0)]  # fmt: skip


def _regime(entry: Entry, corpus: Corpus, evaluations: Sequence[Evaluation], source: str) -> str:
    """What a model saw of a source. "full": its train split. "structure": other sources of a structure it tests. "no
    structure": none of them. "unknown": nobody recorded what the model saw."""
    if source in entry.seen["sources"]:
        return "full"
    if not entry.seen["complete"]:
        return "unknown"
    tested = {str(s) for e in evaluations for s in e.rows[e.rows["source"] == source]["structure"].unique()}
    trained = {structure for those in entry.seen["sources"].values() for structure in those}
    return "structure" if tested & trained else "no structure"


def _corruption(kind: str, severity: int, evaluation: Evaluation, name: str, seed: int) -> dict[str, Any]:
    rows = _boxes(evaluation.rows, name)
    groups, sources = rows["group"].cat.codes.to_numpy(), rows["source"].cat.codes.to_numpy()
    return plain({"corruption": kind, "severity": severity, "instances": len(rows),
                  "dice": bootstrap(rows["dice"].to_numpy(), groups, sources, seed=seed)})  # fmt: skip


def _instances(rows: "pd.DataFrame", name: str) -> list[list[Any]]:
    """[annotation, source, hash of the group, prompt, Dice] before the first click, which later pairs models."""
    own = rows[(rows["weights"] == name) & (rows["protocol"] == "ours") & (rows["clicks"] == 0)]
    own = own.astype({"prompt": str, "source": str, "group": str}).sort_values(["annotation", "prompt"])
    return [
        [int(a), s, hashlib.sha256(g.encode()).hexdigest()[:16], p, round(float(d), 5)]
        for a, s, g, p, d in zip(
            own["annotation"], own["source"], own["group"], own["prompt"], own["dice"], strict=True
        )
    ]


def file_of(model: str) -> str:
    """Return the name of the file of a model's result."""
    return f"{model.replace('/', '-')}.json"


def write(result: Mapping[str, Any], folder: Path) -> Path:
    """Write <model>.json. Raises StorageError."""
    name = file_of(result["model"]["name"])
    text = json.dumps(result, indent=1, sort_keys=True, ensure_ascii=False)
    return atomic.write_results(folder, {name: text}, "Results that are there are complete.") / name


def verified(file: Path) -> dict[str, Any]:
    """Read a result and check its digest. Raises UsageError for a file that was edited or is not a result."""

    def not_one(why: str) -> UsageError:
        return UsageError(f"{file} is not a benchmark result: {why}.", next="us43d bench --help")

    try:
        result = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise not_one(error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise not_one(f"it does not hold valid JSON ({error})") from error
    if isinstance(result, dict) and "models" in result and "paired" in result:
        raise not_one("it is the table of several; merge the JSON files of the models beside it")
    needed = ("digest", "definition", "sources", "model", "regimes", "scores", "instances")
    if not isinstance(result, dict) or (missing := [key for key in needed if key not in result]):
        raise not_one(f"it lacks {listed(missing)}" if isinstance(result, dict) else "it does not hold a JSON object")
    digest = result.pop("digest")
    if digest != digest_of(result):
        raise UsageError(
            f"{file} was changed after it was written: its digest does not fit.", next="the original file, or run again"
        )
    return dict(result) | {"digest": digest}


def results_in(place: Path) -> list[Path]:
    """List the results of models in a folder that `us43d bench` wrote; a file is returned as it is.

    Raises UsageError for a folder without one.
    """
    if not place.is_dir():
        return [place]
    files = sorted(file for file in place.glob("*.json") if file.name != BOARD)
    if not files:
        raise UsageError(f"The folder {place} holds no benchmark result.", next="us43d bench --help")
    return files
