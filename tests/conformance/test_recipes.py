"""One suite for all recipes: facts, specimen → build → the truth drawn, and what must never vary or be lost."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from us43d import facts, registry
from us43d.cards.card import card
from us43d.cards.croissant import croissant
from us43d.contract import Expect, RawTree, Recipe, paths_in
from us43d.errors import BuildError, CountError
from us43d.harmonize import build as building
from us43d.harmonize import pool, shards
from us43d.harmonize.build import BuildResult, build
from us43d.harmonize.check import check
from us43d.harmonize.taxonomy import mapping
from us43d.loading import Samples
from us43d.masks import rle
from us43d.paths import Home
from us43d.specimen import Drawn, Truth

BUSI = "Dataset_BUSI_with_GT"
SPECIMEN = {"kind": "specimen"}


class Built(NamedTuple):
    recipe: Recipe
    raw: Path
    truth: Truth
    before: dict[str, tuple[int, int]]
    result: BuildResult


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """File → (digest of the bytes, time of the last change)."""
    return {
        path.relative_to(folder).as_posix(): (hash(path.read_bytes()), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def make(recipe: Recipe, root: Path, scale: int = 1) -> Truth:
    root.mkdir(parents=True)
    return registry.specimen(recipe.slug)(root, np.random.default_rng(7), scale)


_made: dict[str, Built] = {}


@pytest.fixture
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    slug = request.param
    if slug not in _made:
        recipe = registry.recipe(slug)
        folder = tmp_path_factory.mktemp(slug)
        truth = make(recipe, folder / "raw")
        before = contents(folder / "raw")
        # As published: corrections are facts about the real files, a specimen only has their names.
        result = build(recipe, folder / "raw", Home(folder / "home"), receipt=SPECIMEN, fixes=False)
        _made[slug] = Built(recipe, folder / "raw", truth, before, result)
    return _made[slug]


SLUGS = registry.slugs()
every = pytest.mark.parametrize("slug", SLUGS)
every_built = pytest.mark.parametrize("built", SLUGS, indirect=True)

ROWS = (
    "105US", "AbdomenUS", "ACOUSLIC", "ASUS", "AUL", "brachial plexus", "BrEaST", "BUID", "BUS_UC", "BUS_UCML",
    "BUS-BRA", "BUS (Dataset B)", "BUSI", "CAMUS", "CardiacUDC", "CCAUI", "DDTI", "EchoCP", "EchoNet-Dynamic",
    "EchoNet-Pediatric", "FALLMUD", "FASS", "Fast-U-Net", "FH-PS-AOP", "GIST514-DB", "HC", "kidneyUS",
    "LUSS_phantom", "MicroSeg", "MMOTU-2D", "MMOTU-3D", "MUP", "regPro", "S1", "Segthy", "STMUS_NDA",
    "STU-Hospital", "TG3K", "Thyroid US Cineclip", "TN3K", "TNSCUI", "UPBD", "US nerve Segmentation",
)  # fmt: skip
"""The 43 rows of the US-43d table, as it spells them."""


def altered(recipe: Recipe, **changes: Any) -> Recipe:
    return Recipe(**({name: getattr(recipe, name) for name in Recipe.model_fields} | changes))


@pytest.mark.parametrize(
    ("slug", "folder"),
    [
        ("abdomenus", "AUS/images/train"), ("aul", "raw/Benign"), ("brachial_plexus", "data/Sonosite"),
        ("buid", "Malignant"), ("busi", f"{BUSI}/benign"), ("busi_whu", "test"), ("cardiacnet", "CardiacNet-PAH"),
        ("cardiacnet", "CardiacNet-ASD/Non-ASD"), ("cardiacudc", "Site_G_20"),
        ("regpro", "val"), ("stmus_nda", "GM/Healthy"),
    ],
)  # fmt: skip
def test_a_folder_of_another_name_is_reported(tmp_path: Path, slug: str, folder: str) -> None:
    """Keys, groups and labels followed its name, and the official split was lost."""
    recipe = registry.recipe(slug)
    make(recipe, tmp_path / "raw")
    keys = {sample.key for sample in recipe.samples(RawTree(tmp_path / "raw"))}
    (place,) = tmp_path.glob(f"**/{folder}")
    place.rename(other := place.with_name(f"{place.name} (1)"))
    tree = RawTree(tmp_path / "raw", collect=True)
    samples = list(recipe.samples(tree))
    assert samples
    assert {sample.key for sample in samples} < keys
    tree.use(*(path for sample in samples for path in paths_in(sample)))
    assert any(other.name in name for name in tree.unread(recipe.ignore))


# --------------------------------------------------------------------------------------------------------------- facts


def test_every_row_of_the_table_is_found() -> None:
    assert len(ROWS) == 43
    found = {registry.find(row).slug for row in ROWS}
    assert len(found) == 43
    inside = {recipe.slug for recipe in registry.recipes() if recipe.row is not None}
    assert found == inside


def test_usual_spellings_are_found() -> None:
    spellings = {
        "BUS-UCLM": "BUS_UCML", "UBPD": "UPBD", "HC18": "HC", "US nerve": "US nerve Segmentation", "BUSBRA": "BUS-BRA",
        "Ultrasound Nerve Segmentation": "US nerve Segmentation", "dataset b": "BUS (Dataset B)",
    }  # fmt: skip
    for usual, row in spellings.items():
        assert registry.find(usual).slug == registry.find(row).slug


@every
def test_facts_are_complete_and_consistent(slug: str) -> None:
    recipe = registry.recipe(slug)
    assert recipe.licence.evidence.strip()
    assert recipe.group_rule.strip().endswith(".")
    assert recipe.confidence.strip()
    assert recipe.routes or recipe.access == "unavailable"
    if recipe.licence.id == "CUSTOM":
        assert recipe.licence.name, "terms of its own need a name"
    for citation in recipe.citations:
        assert re.match(r"@\w+\{[^,\s]+,", citation.bibtex), citation.bibtex
        assert citation.bibtex.count("{") == citation.bibtex.count("}")
    mapping(recipe)
    for pattern, why in recipe.ignore.items():
        assert pattern == pattern.lower(), "patterns are matched in lower case"
        assert why.strip()
    names = [file.name for route in recipe.routes for file in route.files]
    for route in recipe.routes:
        assert route.url or route.record or route.files, f"a route of kind {route.kind} says nothing"
        own = [file.name for file in route.files]
        assert len(own) == len(set(own)), names


def test_every_source_has_its_three_files() -> None:
    folder = facts.folder()
    assert {path.stem for path in folder.glob("*.toml")} == set(SLUGS)
    assert {path.stem for path in (folder.parent / "specimens").glob("[!_]*.py")} == set(SLUGS)


@every
def test_nothing_is_left_to_fill_in(slug: str) -> None:
    folder = facts.folder().parent
    files = (folder / "facts" / f"{slug}.toml", folder / f"{slug}.py", folder / "specimens" / f"{slug}.py")
    texts = {file.relative_to(folder.parent): file.read_text() for file in files}
    texts |= {f"{facts.REFERENCES}, entry {n}": c.bibtex for n, c in enumerate(facts.facts(slug).citations, 1)}
    left = [
        f"{name}:{n}: {line.strip()}"
        for name, text in texts.items()
        for n, line in enumerate(text.splitlines(), 1)
        if re.search("FILL IN|fill-in", line)
    ]
    assert not left, "\n".join(["to fill in:", *left])


@every
def test_sources_named_in_facts_exist(slug: str) -> None:
    source = facts.facts(slug)
    assert {other.source for other in source.shares_with} <= set(SLUGS) - {slug}
    assert source.same_as in (None, *SLUGS)


def test_every_reference_is_cited() -> None:
    cited = {citation.bibtex for source in registry.sources() for citation in source.citations}
    entries = facts.parse_bibtex((facts.folder() / facts.REFERENCES).read_text())
    assert [key for key, entry in entries.items() if entry.bibtex not in cited] == []
    assert list(entries) == sorted(entries, key=str.lower)


@every
def test_cards_can_be_made(slug: str) -> None:
    recipe = registry.recipe(slug)
    page = card(recipe)
    for text in (recipe.name, recipe.licence.evidence.split("|")[0], *(c.bibtex.strip() for c in recipe.citations)):
        assert text in page
    assert json.loads(json.dumps(croissant(recipe)))["name"]


# --------------------------------------------------------------------------------------------------- specimen to build


def masks_of(sample: Any) -> dict[str, list[NDArray[np.bool_]]]:
    """Label → one mask per mask file or instance, put together again from its components."""
    whole: dict[tuple[str, int], NDArray[np.bool_]] = {}
    for each in sample.annotations:
        height, width = each["segmentation"]["size"]
        piece = rle.decode(each["segmentation"]["counts"].encode(), height, width)
        at = each["us43d"]["label"], each["us43d"]["instance"]
        whole[at] = whole[at] | piece if at in whole else piece
    found: dict[str, list[NDArray[np.bool_]]] = {}
    for (label, _), mask in sorted(whole.items(), key=lambda item: item[0]):
        found.setdefault(label, []).append(mask)
    return found


def overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


def same_masks(found: dict[str, list[NDArray[np.bool_]]], drawn: Drawn, lossless: bool, key: str) -> None:
    wanted = {label: [mask for mask in masks if mask.any()] for label, masks in drawn.masks.items()}
    wanted = {label: masks for label, masks in wanted.items() if masks}
    assert {label: len(masks) for label, masks in found.items()} == {k: len(v) for k, v in wanted.items()}, key
    for label, masks in wanted.items():
        left = list(found[label])
        for mask in masks:
            assert left[0].shape == mask.shape, key
            best = max(range(len(left)), key=lambda n: overlap(left[n], mask))
            agreement = overlap(left.pop(best), mask)
            assert agreement == 1 if lossless else agreement >= 0.98, f"{key}, {label}: IoU {agreement:.4f}"


@every_built
def test_build_equals_the_truth_drawn(built: Built) -> None:
    rows = {row["key"]: row for row in shards.read_manifest(built.result.path / shards.MANIFEST)}
    assert set(rows) == set(built.truth.samples)
    samples = {sample.meta["us43d"]["key"]: sample for sample in Samples.of_build(built.result.path)}
    assert set(samples) == {key for key, drawn in built.truth.samples.items() if not drawn.dropped}
    for key, drawn in built.truth.samples.items():
        assert (rows[key]["drop"] is not None) == drawn.dropped, (key, rows[key]["drop"])
        assert rows[key]["official_split"] == drawn.split, key
        tags = json.loads(rows[key]["tags"])
        for name, value in drawn.tags.items():
            assert tags.get(name) == value, (key, name)
        if not drawn.dropped:
            same_masks(masks_of(samples[key]), drawn, built.truth.lossless and drawn.lossless, key)


@every_built
def test_groups_are_those_drawn(built: Built) -> None:
    tree = RawTree(built.raw)
    for sample in built.recipe.read(tree):
        wanted = built.truth.samples[sample.key].group
        if wanted is not None:
            assert (sample.group or sample.key) == wanted, sample.key


@every_built
def test_build_is_sound_and_disjoint(built: Built) -> None:
    assert check(built.result.path) == []


@every_built
def test_raw_tree_is_left_as_it_was(built: Built) -> None:
    assert contents(built.raw) == built.before


@every_built
def test_nothing_depends_on_listing_order_or_workers(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(building, "BLOCK", 2)  # a specimen in one block would never meet a worker
    options: dict[str, Any] = {"receipt": SPECIMEN, "fixes": False}
    alone = build(built.recipe, built.raw, Home(tmp_path / "alone"), **options)
    pools = []
    run = pool._pool
    monkeypatch.setattr(pool, "_pool", lambda todo, jobs, note: (pools.append(jobs), run(todo, jobs, note)))
    listed = request.getfixturevalue("reversed_listing")
    again = build(built.recipe, built.raw, Home(tmp_path / "two"), jobs=2, **options)
    assert again.digest == alone.digest
    assert pools == ([2] if built.result.dataset["counts"]["images"] > 2 else [])
    several = any(len(list(folder.iterdir())) > 1 for folder in [built.raw, *built.raw.rglob("*/")] if folder.is_dir())
    assert any(folder.is_relative_to(built.raw) for folder in listed) == several


@pytest.mark.parametrize("spelled", [str.upper, str.lower, str.swapcase], ids=["upper", "lower", "swapped"])
@every_built
def test_case_of_names_decides_nothing(built: Built, tmp_path: Path, spelled: Callable[[str], str]) -> None:
    """Keys, and so the splits, followed it in 30 sources; seven silently lost groups, splits, tags or outlines."""
    for path in filter(Path.is_file, built.raw.rglob("*")):
        copy = tmp_path / "raw" / Path(*map(spelled, path.relative_to(built.raw).parts))
        copy.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, copy)
    again = build(built.recipe, tmp_path / "raw", Home(tmp_path / "home"), receipt=SPECIMEN, fixes=False)
    assert again.digest == built.result.digest, (
        "Keys or groups follow the case of file names. Take them from a table, or write their letters in the pattern "
        "of glob (docs/adding-a-source.md, step 3)."
    )


@every_built
def test_paper_profile_builds(built: Built, tmp_path: Path) -> None:
    paper = build(built.recipe, built.raw, Home(tmp_path), receipt=SPECIMEN, profile="paper")
    allowed = {built.recipe.paper.renamed.get(label, label) for label in built.recipe.labels}
    for sample in Samples.of_build(paper.path):
        assert {each["us43d"]["label"] for each in sample.annotations} <= allowed
        assert sample.annotations or not built.recipe.paper.skip_empty
    assert check(paper.path) == []


STREAMS = tuple(slug for slug in SLUGS if registry.recipe(slug).media != "image2d")
FRAMES, BOUND_MB = 2000, 300


@pytest.mark.slow
@pytest.mark.parametrize("slug", STREAMS)
def test_streams_stay_small_in_memory(slug: str, tmp_path: Path) -> None:
    make(registry.recipe(slug), tmp_path / "one")
    frames = sum(1 for _ in registry.recipe(slug).read(RawTree(tmp_path / "one")))
    make(registry.recipe(slug), tmp_path / "raw", scale=-(-FRAMES // frames))
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, slug, str(tmp_path / "raw"), str(tmp_path / "home")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    samples, before, peak = map(float, done.stdout.split())
    # Where only few frames of a stack or video are drawn on, scale lengthens those, not the list of samples.
    large, small = (sum(p.stat().st_size for p in (tmp_path / d).rglob("*") if p.is_file()) for d in ("raw", "one"))
    assert samples >= FRAMES or large > 10 * small
    assert peak < BOUND_MB, f"{slug}: {peak:.0f} MB at its peak, {before:.0f} MB of them before the first sample"


_MEASURED = """
import re, sys
from pathlib import Path
from us43d import facts, registry
from us43d.harmonize.build import build
from us43d.paths import Home
def used():  # not getrusage, whose peak begins with that of the process that started this one
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
before = used()
result = build(registry.recipe(sys.argv[1]), Path(sys.argv[2]), Home(Path(sys.argv[3])), receipt={"kind": "specimen"})
print(result.dataset["counts"]["images"], before, used())
"""


# --------------------------------------------------------------------------------------------------------- nothing lost


@every_built
def test_shortfall_fails(built: Built, tmp_path: Path) -> None:
    counts = built.result.dataset["counts"]
    exact = Expect(
        images=counts["images"], annotated=counts["annotated"], masks=counts["masks"], groups=counts["groups"]
    )
    build(altered(built.recipe, expect=exact), built.raw, Home(tmp_path / "exact"), fixes=False)
    short = exact.model_copy(update={"masks": counts["masks"] + 1})
    with pytest.raises(CountError, match="fewer than published: masks"):
        build(altered(built.recipe, expect=short), built.raw, Home(tmp_path / "short"), fixes=False)


@every_built
def test_a_file_nobody_accounts_for_is_named(built: Built, tmp_path: Path) -> None:
    copy = tmp_path / "raw"
    copy.mkdir()
    for path in built.raw.rglob("*"):
        target = copy / path.relative_to(built.raw)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
    (copy / "unheard-of.bin").write_bytes(b"what is this")
    with pytest.raises(BuildError, match=r"neither read nor ignored by name: unheard-of\.bin"):
        build(built.recipe, copy, Home(tmp_path / "home"), receipt=SPECIMEN)


@every_built
def test_keys_are_unique_and_every_raw_file_is_read_or_ignored(built: Built) -> None:
    tree = RawTree(built.raw)
    keys = Counter(sample.key for sample in built.recipe.read(tree))
    assert max(keys.values()) == 1
    assert len(keys) == built.result.dataset["counts"]["images"]


def test_block_size_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = registry.recipe("camus")
    raw = tmp_path / "raw"
    raw.mkdir()
    registry.specimen("camus")(raw, np.random.default_rng(7))
    whole = build(recipe, raw, Home(tmp_path / "a"), receipt=SPECIMEN)
    monkeypatch.setattr(building, "BLOCK", 3)
    parts = build(recipe, raw, Home(tmp_path / "b"), receipt=SPECIMEN)
    rows = [shards.read_manifest(each.path / shards.MANIFEST) for each in (whole, parts)]
    for row in (*rows[0], *rows[1]):
        row["file"] = row["file"] and row["file"].rpartition("/")[2]
    assert rows[0] == rows[1]
