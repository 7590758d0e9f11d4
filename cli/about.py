"""Verbs that say what there is: list, info, taxonomy, cite, licences, card, doctor."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from us43d import __version__, registry
from us43d.contract import APART, Collection, CountName, Facts, Recipe, Shared
from us43d.errors import CheckError, UsageError, counted, listed
from us43d.machine import processors

from .options import Names
from .output import Session, plain
from .select import chosen, sources_on_disk, state
from .tables import Columns, Table
from .verb import verb

if TYPE_CHECKING:
    from us43d.harmonize.taxonomy import Taxonomy

PANEL = "Sources"
_COUNTS: tuple[CountName, ...] = ("images", "annotated", "masks", "groups")


# ---------------------------------------------------------------------------------------------------------------- list


@verb(
    "list",
    panel=PANEL,
    examples=(
        "us43d list",
        "us43d list --organ thyroid",
        "us43d list --collection beyond",
        "us43d list --json | jq '.[].name'",
    ),
)
def list_(
    session: Session,
    organ: Annotated[str | None, typer.Option(help="Only sources of this organ.")] = None,
    collection: Annotated[Collection | None, typer.Option(help="Only sources of this collection.")] = None,
) -> None:
    """List all sources: organ, published counts, licence, access, and what is on this disk."""
    from us43d.cards.card import rounded
    from us43d.cards.pages import download_sizes, totals

    sources = sorted(registry.sources(session.home), key=lambda source: source.name.lower())
    if collection is not None:
        sources = [source for source in sources if collection in source.collections]
    if organ is not None:
        organs = sorted({source.organ for source in sources})
        sources = [source for source in sources if source.organ.lower() == organ.lower()]
        if not sources:
            raise UsageError(
                f"No sources found for the organ {organ!r}. Organs: {listed(organs, 40)}.", next="us43d list"
            )
    sources.sort(key=lambda source: source.kind in APART)
    disk = {source.slug: state(session.home, source) for source in sources}
    counts = {source.slug: {what: source.stated(what) for what in _COUNTS} for source in sources}
    data = [
        {
            "name": source.name,
            "us43d": source.row is not None,
            "collections": source.collections,
            "kind": source.kind,
            "private": source.private,
            "external_tier": source.external_tier,
            "organ": source.organ,
            "media": source.media,
            **{what: number and number.value for what, number in counts[source.slug].items()},
            "estimates": [what for what, number in counts[source.slug].items() if number and number.estimate],
            "group_kind": source.group_kind,
            "structures": list(dict.fromkeys(source.labels.values())),
            "download_bytes": source.download and source.download.value,
            "licence": source.licence.id,
            "commercial": source.licence.terms.commercial,
            "access": source.access,
            "fetched": disk[source.slug].fetched,
            "builds": disk[source.slug].builds,
        }
        for source in sources
    ]
    heads: Columns = (
        ("source", "left"), ("organ", "fold"), ("images", "right"), ("licence", "left"), ("access", "left"),
        ("on disk", "left"),
    )  # fmt: skip

    def table(shown: list[Facts]) -> Table:
        return Table(heads, [
            (
                source.name if source.row or source.private else f"{source.name} +",
                source.organ if source.kind == "human" else f"{source.organ} ({source.kind})",
                rounded(number) if (number := counts[source.slug]["images"]) else None,
                source.licence.id,
                source.access,
                disk[source.slug].word,
            )
            for source in shown
        ])  # fmt: skip

    own = [source for source in sources if source.private]
    published = [source for source in sources if not source.private]
    apart = [source for source in published if source.kind in APART]
    parts: list[str | Table] = [table([source for source in published if source.kind not in APART])]
    if apart:
        parts += ["", "Animals, synthetic images and derived masks (in a corpus only if asked for):", table(apart)]
    if own:
        parts += ["", "Private sources of this home (not published; in a corpus only if asked for):", table(own)]
    session.answer(data, *parts)
    inside = [source for source in sources if source.row]
    shown = [f"{len(inside)} sources of US-43d with {totals(inside)}"] if inside else []
    if beyond := len(published) - len(inside):
        shown.append(f"{beyond} beyond US-43d (+)")
    if own:
        shown.append(f"{len(own)} private")
    have = sum(bool(status.word) for status in disk.values())
    session.say(f"{', '.join(shown) or 'No sources'}; {have} on this disk, in {session.home.root}")
    session.say(f"{download_sizes(sources).capitalize()}.")


# ---------------------------------------------------------------------------------------------------------------- info


@verb("info", panel=PANEL, examples=("us43d info BUSI", "us43d info bus-bra --json"))
def info(
    session: Session, name: Annotated[str, typer.Argument(help="A source, in any spelling.", metavar="NAME")]
) -> None:
    """Show one source: facts, licence, citation, known issues, and its state on this disk."""
    from us43d.cards.card import KINDS, counts
    from us43d.licences import USES, allows

    recipe = registry.find(name, session.home)
    disk = state(session.home, recipe)
    terms = recipe.licence.terms
    if session.as_json:
        data = plain(recipe) | {"terms": plain(terms)}
        session.answer(data | {"fetched": disk.fetched, "builds": disk.builds, "raw": session.home.raw(recipe.name)})
        return
    lines: list[tuple[str, str]] = []

    def line(key: str, value: object) -> None:
        if value:
            lines.append((key, str(value)))

    line("about", recipe.title)
    line("organ", f"{recipe.organ}: {recipe.application}")
    line("also called", ", ".join(dict.fromkeys(n for n in (recipe.row, *recipe.aliases) if n and n != recipe.name)))
    line("collections", ", ".join(recipe.collections))
    line("kind", "" if recipe.kind == "human" else KINDS[recipe.kind])
    line("external tier", "kept for comparing models, not for training" if recipe.external_tier else "")
    line("homepage", recipe.homepage)
    line(
        "counted" if recipe.private else "published",
        " · ".join(f"{number:,} {what}" for what, number in counts(recipe).items()) or "no counts",
    )
    line("labels", "\n".join(_label(recipe, label) for label in recipe.labels))
    line("group", f"{recipe.group_kind}. {recipe.group_rule}")
    line("official split", recipe.official_split or "none")
    line("shares", "\n".join(_shared(shared) for shared in recipe.shares_with))
    line("access", f"{recipe.access}, checked {recipe.access_checked}. {recipe.access_note}")
    ways = (f"{n}. {_way(route)}" for n, route in enumerate(recipe.routes, start=1))
    line("from", "\n".join(ways) or ("" if recipe.private else "no known download source"))
    line("licence", f"{terms.title} ({recipe.licence.id})" + (f"\n{terms.url}" if terms.url else ""))
    line("", recipe.licence.evidence)
    words = {True: "yes", False: "no", None: "unknown"}
    line("permitted uses", "\n".join(f"{meaning}: {words[allows(terms, use)]}" for use, meaning in USES.items()))
    line("known issues", "\n".join(f"• {issue}" for issue in recipe.known_issues))
    line("confidence", recipe.confidence)
    line("on disk", _disk(session, recipe, disk.fetched, disk.builds))
    cites = (f"{c.title}. {c.venue or ''} {c.year or ''}. {f'doi:{c.doi}' if c.doi else ''}" for c in recipe.citations)
    if recipe.citations:
        line("cite", "\n".join(" ".join(cite.split()) for cite in cites) + f"\nBibTeX: us43d cite {recipe.name}")
    session.answer(None, recipe.name, "", Table((("", "left"), ("", "fold")), lines))


def _shared(shared: Shared) -> str:
    return f"{shared.what} of {shared.source}{'' if shared.certain else ' (likely)'}: {shared.evidence}"


def _label(recipe: Recipe, label: str) -> str:
    structure, diagnosis = recipe.labels[label], recipe.diagnoses.get(label)
    arrow = label if label == structure else f"{label} → {structure}"
    return f"{arrow}, {diagnosis}" if diagnosis else arrow


def _way(route: Any) -> str:
    files = listed((file.name for file in route.files), 3)
    copy = " (a third party's copy)" if route.mirror else ""
    return f"{route.kind.replace('_', ' ')} {route.record or route.url or ''}{copy}{f': {files}' if files else ''}"


def _disk(session: Session, recipe: Recipe, fetched: bool, builds: tuple[str, ...]) -> str:
    if not fetched and not builds:
        return f"nothing yet: {recipe.again.removesuffix(' --force')}"
    raw = [f"raw files in {session.home.raw(recipe.name)}"] if fetched else []
    return "\n".join([*raw, *(f"build {name}" for name in builds)]) + (
        "" if builds else f"\nnot built yet: us43d build {recipe.name}"
    )


# --------------------------------------------------------------------------------------------------------------- facts


@verb(
    "facts",
    panel=PANEL,
    examples=("us43d facts BUSI", "us43d facts --json > facts.json", "us43d facts --schema > schema.json"),
)
def facts(
    session: Session,
    names: Names = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of the facts.")] = False,
) -> None:
    """Print the facts of sources with their evidence, as TOML or JSON. Default: all sources."""
    from us43d import facts

    if schema:
        if names:
            raise UsageError("--schema takes no names.", next="us43d facts --schema")
        made = facts.schema()
        session.answer(made, json.dumps(made, indent=2, ensure_ascii=False))
        return
    sources = [registry.look_up(name, session.home) for name in dict.fromkeys(names)] if names else registry.sources()

    def text(source: Facts) -> str:
        if source.private:  # its record is JSON
            path = session.home.private(source.slug)
            return f"# {path.name}\n{json.dumps(source.model_dump(mode='json'), indent=1, ensure_ascii=False)}"
        file = facts.folder() / f"{source.slug}.toml"
        return f"# {file.name}\n{file.read_text(encoding='utf-8')}"

    session.answer([source.model_dump(mode="json") for source in sources], *map(text, sources))


# ------------------------------------------------------------------------------------------------------------ taxonomy


@verb("taxonomy", panel=PANEL, examples=("us43d taxonomy", "us43d taxonomy --organ heart", "us43d taxonomy --json"))
def taxonomy(
    session: Session,
    organ: Annotated[str | None, typer.Option(help="Only structures of this organ.")] = None,
) -> None:
    """List the shared names and ids of all structures, their codes, and the sources that have them."""
    from us43d.harmonize import taxonomy as shared

    known: Taxonomy = shared.taxonomy()
    sources: dict[str, list[str]] = {}
    for recipe in registry.sources():
        for structure in dict.fromkeys(recipe.labels.values()):
            sources.setdefault(structure, []).append(recipe.name)
    picked = [c for c in known.categories if organ is None or c.organ.lower() == organ.lower()]
    if not picked:
        organs = sorted({category.organ for category in known.categories})
        raise UsageError(
            f"No structures found for the organ {organ!r}. Organs: {listed(organs, 40)}.", next="us43d taxonomy"
        )
    data = {
        "version": known.version,
        "categories": [entry._asdict() | {"sources": sources.get(entry.name, [])} for entry in picked],
    }
    heads: Columns = (("id", "right"), ("structure", "left"), ("organ", "left"), ("code", "left"), ("sources", "fold"))
    rows = (
        (
            entry.id,
            entry.name,
            entry.organ,
            entry.codes[0]["code"] if entry.codes else None,
            ", ".join(sources.get(entry.name, ())),
        )
        for entry in picked
    )
    session.answer(data, Table(heads, rows))
    session.say(
        f"{counted(len(picked), 'structure')}, taxonomy version {known.version}; codes are SNOMED CT where one is known"
    )


# ------------------------------------------------------------------------------------------------------ cite, licences


@verb("cite", panel=PANEL, examples=("us43d cite BUSI CAMUS", "us43d cite --all > references.bib"))
def cite(
    session: Session, names: Names = None, every: Annotated[bool, typer.Option("--all", help="Every source.")] = False
) -> None:
    """Print BibTeX of sources; with --all, also of the collection and UltraSam."""
    from us43d.bibliography import ULTRASAM, bibtex

    recipes = chosen(names, registry.recipes() if every else None, "cite", session.home)
    text = bibtex(citation for recipe in recipes for citation in recipe.citations)
    entries = f"{ULTRASAM}\n\n{text}" if every else text
    session.answer({"bibtex": entries, "sources": [recipe.name for recipe in recipes]}, entries.rstrip("\n"))


@verb(
    "licences",
    panel=PANEL,
    examples=("us43d licences", "us43d licences BUSI CAMUS HC18", "us43d licences --all --commercial"),
)
def licences(
    session: Session,
    names: Names = None,
    every: Annotated[bool, typer.Option("--all", help="Every source, on this disk or not.")] = False,
    commercial: Annotated[
        bool, typer.Option("--commercial", help="Only sources whose licence permits commercial use.")
    ] = False,
) -> None:
    """List what the licences of sources permit and what is unknown. Default: the sources on this disk."""
    from us43d.licences import CAVEAT, allows, summary

    if names or every:
        recipes = chosen(names, registry.recipes() if every else None, "licences", session.home)
    else:
        recipes = sources_on_disk(session.home)
        if not recipes:
            raise UsageError(f"No sources found in {session.home.root}.", next="us43d licences --all")
    refused = [r for r in recipes if commercial and allows(r.licence.terms, "commercial") is not True]
    recipes = [recipe for recipe in recipes if recipe not in refused]
    permissions = summary({recipe.name: recipe.licence.terms for recipe in recipes})
    data = plain(permissions) | {"caveat": CAVEAT, "refused": [recipe.name for recipe in refused]}
    heads: Columns = (("permitted uses", "fold"), ("", "left"), ("", "right"), ("sources", "fold"))
    rows = []
    for verdict in permissions.verdicts:
        sides = (("yes", verdict.allowed), ("no", verdict.forbidden), ("unknown", verdict.unknown))
        filled = [(word, sources) for word, sources in sides if sources]
        for n, (word, sources) in enumerate(filled):
            rows.append((verdict.meaning if n == 0 else "", word, len(sources), ", ".join(sources)))
    for meaning, sources in (
        ("must give credit", permissions.attribution),
        ("must share alike", permissions.share_alike),
    ):
        if sources:
            rows.append((meaning, "", len(sources), ", ".join(sources)))
    session.answer(data, Table(heads, rows))
    if refused:
        session.say(f"Refused with --commercial ({len(refused)}): {', '.join(recipe.name for recipe in refused)}")
    session.say(CAVEAT)


# ---------------------------------------------------------------------------------------------------------------- card


@verb(
    "card",
    panel=PANEL,
    kept="Pages written so far are complete.",
    examples=(
        "us43d card BUSI",
        "us43d card BUSI --format croissant > busi.jsonld",
        "us43d card BUSI --format croissant --build > croissant.json",
        "us43d card --check",
        "us43d card --write",
    ),
)
def card(
    session: Session,
    name: Annotated[
        str | None, typer.Argument(help="A source, in any spelling.", metavar="NAME", show_default=False)
    ] = None,
    format: Annotated[
        Literal["md", "croissant", "bib"], typer.Option(help="Markdown, Croissant JSON-LD, or BibTeX.")
    ] = "md",
    build: Annotated[
        bool,
        typer.Option(
            "--build",
            help="Croissant: describe the newest build on this disk, with its records; to be saved in its folder.",
        ),
    ] = False,
    write: Annotated[bool, typer.Option("--write", help="Bring the folder of generated pages up to date.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Fail if the folder of generated pages is stale.")] = False,
    folder: Annotated[Path, typer.Option(help="Folder of the generated pages.")] = Path("docs/cards"),
) -> None:
    """Print the card of a source, made from its facts; or update all generated pages of the documentation."""
    from us43d.bibliography import bibtex
    from us43d.cards import pages
    from us43d.cards.card import card as page
    from us43d.cards.croissant import croissant, croissant_of_build
    from us43d.harmonize.built import CROISSANT

    from .builds import newest

    if sum((name is not None, write, check)) != 1:
        raise UsageError("Give one of a name, --write and --check.", next="us43d card --help")
    if name is not None:
        recipe = registry.find(name, session.home)
        if build and format != "croissant":
            raise UsageError("--build needs --format croissant.", next="us43d card --help")
        if format == "croissant":
            path = newest(session, recipe) if build else None
            made = croissant_of_build(recipe, path) if path else croissant(recipe)
            session.answer(made, json.dumps(made, indent=2, ensure_ascii=False))
            if path:
                session.say(f"File names are relative to the build: save this as {path / CROISSANT}")
        else:
            text = f"{page(recipe)}{_of_build(session, recipe)}" if format == "md" else bibtex(recipe.citations)
            session.answer({"name": recipe.name, "format": format, "text": text}, text.rstrip("\n"))
        return
    if write:
        changed = pages.write(folder, registry.recipes())
        session.answer({"folder": folder, "changed": changed}, *changed)
        session.say(f"{folder}: {len(changed)} of {len(pages.pages(registry.recipes()))} pages changed")
        return
    stale = pages.stale(folder, registry.recipes())
    if stale:
        raise CheckError(f"{len(stale)} pages in {folder} are stale: {listed(stale)}.", next="us43d card --write")
    session.answer({"folder": folder, "stale": []}, f"{folder} is up to date")


def _of_build(session: Session, recipe: Recipe) -> str:
    """Return sections for the card of a source: exclusions by choice and corrections of its build on this disk."""
    from us43d.cards.card import corrected, left_out
    from us43d.harmonize.built import Build
    from us43d.loading import latest

    build = latest(session.home, recipe.name)
    if build is None:
        return ""
    facts = Build(build).facts
    return left_out(facts) + corrected(facts)


# -------------------------------------------------------------------------------------------------------------- doctor


@verb("doctor", panel=PANEL, examples=("us43d doctor", "us43d doctor --json"))
def doctor(session: Session) -> None:
    """Show Python, packages, GPU, disk and network settings for a bug report. Fails if something is broken."""
    rows = list(_examine(session))
    heads: Columns = (("", "left"), ("", "left"), ("", "fold"))
    data = [{"what": what, "state": how, "found": finding} for how, what, finding in rows]
    session.answer(data, Table(heads, rows))
    broken = [what for how, what, _ in rows if how == "broken"]
    if broken:
        raise CheckError(f"Broken here: {', '.join(broken)}.")


_PACKAGES = {
    "needed": ("numpy", "opencv-python-headless", "pandas", "pyarrow", "pycocotools", "pydantic", "requests", "rich",
               "typer", "filelock", "nibabel", "SimpleITK", "openpyxl", "h5py"),
    "train": ("torch", "safetensors", "faster-coco-eval", "pydicom", "pillow"),
    "hosts": ("kaggle",),
    "archives": ("py7zr", "rarfile"),
    "dask": ("dask", "distributed"),
}  # fmt: skip


def _examine(session: Session) -> Iterator[tuple[str, str, str]]:
    """Yield (ok | note | broken, subject, finding)."""
    import platform
    import shutil
    from importlib import metadata

    yield "ok", "us43d", f"{__version__}, {len(registry.slugs())} sources"
    yield (
        "ok" if sys.version_info >= (3, 11) else "broken",
        "Python",
        f"{platform.python_version()} on {platform.platform()}",
    )
    for extra, packages in _PACKAGES.items():
        installed, missing = [], []
        for package in packages:
            try:
                installed.append(f"{package} {metadata.version(package)}")
            except metadata.PackageNotFoundError:
                missing.append(package)
        what = "packages" if extra == "needed" else f"extra {extra}"
        absent = f"missing: {', '.join(missing)}" + ("" if extra == "needed" else f" (pip install 'us43d[{extra}]')")
        how = "ok" if not missing else "broken" if extra == "needed" else "note"
        yield how, what, "; ".join(filter(None, (", ".join(installed), absent if missing else "")))
    yield _torch()
    yield "ok", "processors", str(processors())
    root = session.home.root
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    disk = shutil.disk_usage(existing)
    writable = os.access(existing, os.W_OK | os.X_OK)
    free = f"{disk.free / 1e9:,.0f} GB free of {disk.total / 1e9:,.0f} GB"
    yield "ok" if writable else "broken", "home", f"{root}, {free}" + ("" if writable else ", not writable")
    yield "ok" if disk.free > 5e9 else "note", "free disk", "enough to begin" if disk.free > 5e9 else "under 5 GB"
    # Names only: addresses of proxies may carry passwords.
    proxies = [name for name in os.environ if name.lower() in {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}]
    yield "ok", "proxy", ", ".join(sorted(proxies)) or "none set"
    kaggle = Path(os.environ.get("KAGGLE_CONFIG_DIR", Path.home() / ".kaggle")) / "kaggle.json"
    has = kaggle.is_file() or {"KAGGLE_USERNAME", "KAGGLE_KEY"} <= set(os.environ) or "KAGGLE_API_TOKEN" in os.environ
    yield (
        "ok" if has else "note",
        "Kaggle",
        "credentials found" if has else "no credentials; sources on Kaggle need them",
    )
    rar = [tool for tool in ("unrar", "unar", "7z", "7zz", "bsdtar") if shutil.which(tool)]
    yield (
        "ok" if rar else "note",
        "RAR tools",
        ", ".join(rar) or "none of unrar, unar, 7z, bsdtar; RAR archives need one",
    )
    try:
        count = sum(1 for _ in registry.recipes())
        yield "ok", "recipes", f"all {count} can be imported"
    except Exception as error:  # noqa: BLE001  (a recipe of the user's own may fail in any way; that is the finding)
        yield "broken", "recipes", f"{type(error).__name__}: {error}"


def _torch() -> tuple[str, str, str]:
    try:
        import torch
    except ImportError as error:
        return "note", "GPU", f"PyTorch cannot be imported: {error}"
    if not torch.cuda.is_available():
        return "note", "GPU", "none that PyTorch can use; the presets small and nano train on the CPU"
    names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    return "ok", "GPU", f"{', '.join(names)}; CUDA {torch.version.cuda}"
