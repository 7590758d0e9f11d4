"""What the page asks of a corpus: facets with counts, search, order, a window of rows, one image.

One row per sample of the builds' manifests, excluded and dropped ones included, in the order of sources and keys; the
corpus gives splits and annotations. All columns are arrays in memory (about 150 bytes per image), so that a few passes
over them answer any question.
"""

import json
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from us43d.errors import BuildError, command
from us43d.harmonize.built import Build
from us43d.harmonize.corpus import OWN, SPECK, SPLITS, Corpus
from us43d.spelling import counting

__all__ = ["Catalogue", "Facet", "Query"]

_COLUMNS = ("id", "key", "phash", "group", "group_kind", "official_split", "height", "width", "tags", "remarks", "drop")
_STATES = (*SPLITS, "dropped", "not in the corpus")
_DROPPED, _MISSING = 4, 5
_NO_MASK = "(no mask)"
#: Tags with more values than this are not facets: they name patients or files, or are measurements.
_MOST_VALUES = 60
#: Groups listed at once.
_GROUPS = 40
#: Answers kept, by query.
_CACHED = 24
#: Titles of the other facets that a tag may share.
_TITLES = ("Source", "Split", "Organ", "Structure", "Diagnosis")
_SIZES = ((256, "under 256 px"), (512, "256 to 511 px"), (1024, "512 to 1,023 px"), (1 << 31, "1,024 px and more"))
_ORDERS = {
    "key": "Source and key", "annotations": "Most annotations", "largest": "Largest structure",
    "smallest": "Smallest structure", "dice": "Worst Dice",
}  # fmt: skip


class Query(NamedTuple):
    """Images asked for. choices: facet → values, of which an image has one. text: in its key or group, or its id.

    groups: names, of which the image's group has one. order: a key of `Catalogue.orders`. like: id of an image; the
    most similar come first.
    """

    choices: tuple[tuple[str, tuple[str, ...]], ...] = ()
    text: str = ""
    groups: tuple[str, ...] = ()
    order: str = "key"
    like: int = 0


@dataclass(frozen=True, eq=False)
class Facet:
    """rows, codes: pairs of an image's row and the place of a value in `values`; an image may have several values."""

    name: str
    title: str
    values: list[str]
    rows: NDArray[np.int32]
    codes: NDArray[np.int32]

    def counts(self, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return how many of the images in `mask` (N,) have each value."""
        return np.bincount(self.codes[mask[self.rows]], minlength=len(self.values))

    def matching(self, chosen: Iterable[str], size: int) -> NDArray[np.bool_]:
        """Return (N,) the images that have one of the values; unknown values match nothing."""
        places = [self.values.index(value) for value in chosen if value in self.values]
        mask = np.zeros(size, bool)
        mask[self.rows[np.isin(self.codes, places)]] = True
        return mask


class Catalogue:
    """A corpus that can be asked.

    findings: the contents of audit.json. worst: image id → least Dice of a prediction or of another build's masks.
    against: image id → how it compares with another build. merge: the command that merges the corpus again.

    Raises BuildError if a manifest is missing, CheckError if one is unreadable.
    """

    def __init__(
        self,
        corpus: Corpus,
        findings: Mapping[str, Any] | None = None,
        worst: Mapping[int, float] | None = None,
        against: Mapping[int, str] | None = None,
        merge: str = "",
    ) -> None:
        self.corpus, self._merge = corpus, merge
        self._lock = Lock()
        self._answers: OrderedDict[Query, NDArray[np.int32]] = OrderedDict()
        self._read(corpus)
        self.worst = np.full(len(self), np.inf, np.float32)
        for number, dice in (worst or {}).items():
            if (row := self.row(number)) is not None:
                self.worst[row] = dice
        self.twins: dict[int, list[tuple[int, str]]] = defaultdict(list)
        marked = self._findings(findings) if findings else []
        self.facets = {facet.name: facet for facet in self._facets(marked) if len(facet.values)}
        if against:
            rows = [(row, text) for number, text in against.items() if (row := self.row(number)) is not None]
            facet = _texts("against", "Compared", [row for row, _ in rows], [text for _, text in rows])
            self.facets = {"against": facet} | self.facets
        self.orders = {name: title for name, title in _ORDERS.items() if name != "dice" or worst}

    # ---------------------------------------------------------------------------------------------------------- reading

    def _read(self, corpus: Corpus) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        tables, numbers = [], []
        for number, source in enumerate(corpus.sources):
            table = _manifest(corpus.home / source["path"], corpus, number)
            tables.append(table)
            numbers.append(np.full(len(table), number, np.uint16))
        table = pa.concat_tables(tables)
        self.sources = np.concatenate(numbers)
        self.starts = np.concatenate(([0], np.cumsum([len(t) for t in tables])))
        self.ids = _numbers(table["id"], np.int64)
        self.heights, self.widths = (_numbers(table[name], np.int32) for name in ("height", "width"))
        self.phashes = _numbers(table["phash"], np.uint64)
        self._keys = table["key"].cast("large_string").combine_chunks()
        self._lower = pc.utf8_lower(self._keys)  # once, as folding case is most of the time of a search
        groups = table["group"].combine_chunks().dictionary_encode()
        self._groups, local = groups.dictionary.cast("large_string"), _numbers(groups.indices, np.int64)
        # A group's name is unique in its source only.
        self.groups = self.sources.astype(np.int64) * len(self._groups) + local
        self._group_codes = local.astype(np.int32)
        self._table = table.select(["group_kind", "official_split", "tags", "remarks", "drop"])
        self._order = np.argsort(self.ids, kind="stable")
        by_id = np.argsort(corpus.images["id"], kind="stable")
        sorted_ids = corpus.images["id"][by_id]
        place = np.minimum(np.searchsorted(sorted_ids, self.ids), max(0, len(sorted_ids) - 1))
        present = sorted_ids[place] == self.ids if len(sorted_ids) else np.zeros(len(self.ids), bool)
        #: Row of the corpus' images, −1 for what it does not hold.
        self.images = np.where(present, by_id[place] if len(by_id) else 0, -1).astype(np.int64)
        dropped = _numbers(self._table["drop"].is_valid(), bool)
        self.states = np.where(present, corpus.images["split"][np.maximum(self.images, 0)], _MISSING).astype(np.uint8)
        self.states[dropped] = _DROPPED
        self._annotations(corpus)

    def _annotations(self, corpus: Corpus) -> None:
        """Read pairs of row and category, counts and extreme shares from annotations, without specks."""
        rows = np.full(len(corpus), -1, np.int32)
        present = np.flatnonzero(self.images >= 0)
        rows[self.images[present]] = present
        annotations = corpus.annotations
        kept = (annotations["flags"] & SPECK) == 0
        owner = rows[annotations["image"][kept]]
        known = owner >= 0
        owner, self._categories = owner[known], annotations["category"][kept][known].astype(np.int32)
        self._owners, self._diagnoses = owner, annotations["diagnosis"][kept][known].astype(np.int32)
        area = np.maximum(1, self.heights.astype(np.int64) * self.widths)[owner]
        share = (annotations["area"][kept][known] / area).astype(np.float32)
        self.counts = np.bincount(owner, minlength=len(self)).astype(np.int32)
        self.largest, self.smallest = np.zeros(len(self), np.float32), np.full(len(self), np.inf, np.float32)
        np.maximum.at(self.largest, owner, share)
        np.minimum.at(self.smallest, owner, share)

    # ----------------------------------------------------------------------------------------------------------- facets

    def _facets(self, marked: list[tuple[int, str]]) -> Iterable[Facet]:
        every = np.arange(len(self), dtype=np.int32)
        names = [source["name"] for source in self.corpus.sources]
        yield _facet("source", "Source", names, every, self.sources)
        yield _facet("split", "Split", list(_STATES), every, self.states)
        category = {entry["id"]: entry for entry in self.corpus.categories}
        bare = np.flatnonzero((self.counts == 0) & (self.states != _DROPPED)).astype(np.int32)
        organs = [(category[c]["supercategory"] if c in category else "") for c in range(max([*category, 0]) + 1)]
        own = [source["organ"] for source in self.corpus.sources]
        yield _named(
            "organ", "Organ", _unique_pairs(self._owners, self._categories), organs,
            extra=(every[self.counts == 0], [own[n] for n in self.sources[self.counts == 0]]),
        )  # fmt: skip
        structures = [(category[c]["name"] if c in category else "") for c in range(len(organs))]
        yield _named(
            "structure", "Structure", _unique_pairs(self._owners, self._categories), structures,
            extra=(bare, [_NO_MASK] * len(bare)),
        )  # fmt: skip
        yield _named(
            "diagnosis", "Diagnosis", _unique_pairs(self._owners, self._diagnoses), self.corpus.facts["diagnoses"]
        )
        yield _texts("finding", "Audit finding", [row for row, _ in marked], [kind for _, kind in marked])
        yield from self._tags()
        yield self._column("drop", "Dropped because")
        yield self._lists("remarks", "Remark")
        yield self._column("official_split", "Published split")
        yield self._column("group_kind", "Group is a")
        sized = every[self.heights > 0]
        longest = np.maximum(self.heights, self.widths)[sized]
        yield _facet("size", "Longer side", [t for _, t in _SIZES], sized, np.digitize(longest, [s for s, _ in _SIZES]))

    def _column(self, name: str, title: str) -> Facet:
        encoded = self._table[name].combine_chunks().dictionary_encode()
        known = _numbers(encoded.is_valid(), bool)
        codes = _numbers(encoded.indices.fill_null(0), np.int32)
        return _facet(name, title, encoded.dictionary.to_pylist(), np.flatnonzero(known).astype(np.int32), codes[known])

    def _json(self, name: str) -> tuple[list[Any], NDArray[np.int32]]:
        """Return the distinct decoded values and, for every row, the index of its value."""
        encoded = self._table[name].combine_chunks().dictionary_encode()
        return [json.loads(text) for text in encoded.dictionary.to_pylist()], _numbers(
            encoded.indices.fill_null(-1), np.int32
        )

    def _lists(self, name: str, title: str) -> Facet:
        values, codes = self._json(name)
        rows: list[NDArray[Any]] = []
        texts: list[str] = []
        for place, row_list in _by_code(codes, values):
            for text in place:
                rows.append(row_list)
                texts.append(str(text))
        return _blocks(name, title, rows, texts)

    def _tags(self) -> Iterable[Facet]:
        values, codes = self._json("tags")
        by_tag: dict[str, tuple[list[NDArray[Any]], list[str]]] = defaultdict(lambda: ([], []))
        for tags, rows in _by_code(codes, values):
            for tag, value in tags.items():
                by_tag[tag][0].append(rows)
                by_tag[tag][1].append(str(value).lower() if isinstance(value, bool) else str(value))
        for tag, (blocks, texts) in sorted(by_tag.items()):
            if len(set(texts)) <= _MOST_VALUES:
                title = tag.replace("_", " ").capitalize()
                yield _blocks(f"tag.{tag}", f"{title} (tag)" if title in _TITLES else title, blocks, texts)

    def _findings(self, content: Mapping[str, Any]) -> list[tuple[int, str]]:
        """Return (row, kind) of all findings of an audit; fills `twins`."""
        marked: set[tuple[int, str]] = set()

        def rows(entries: Iterable[Mapping[str, Any]]) -> list[int]:
            candidates = (self.find(entry["source"], entry["key"]) for entry in entries)
            return [row for row in candidates if row is not None]

        for name, kind in (
            ("exact", "exact duplicate"), ("across_sources", "also in another source"), ("leaks", "remaining leak"),
            ("leaks_across_sources", "remaining leak"), ("official_leaks", "leak in the published split"),
        ):  # fmt: skip
            for family in content.get(name, ()):
                members = rows(family)
                marked |= {(row, kind) for row in members}
                if name == "exact":
                    for row in members:
                        self.twins[row] += [(other, kind) for other in members if other != row]
        for name, kind in (("near", "near-duplicate"), ("conflicts", "contradicting labels")):
            for pair in content.get(name, ()):
                members = rows((pair["a"], pair["b"]))
                marked |= {(row, kind) for row in members}
                if len(members) == 2:
                    for row, other in (members, members[::-1]):
                        self.twins[row].append((other, kind))
        words = {
            "outside": "mask outside the field of view", "whole": "mask as large as the image", "empty": "empty mask",
            "speck": "speck",
        }  # fmt: skip
        for fault in content.get("masks", ()):
            marked |= {(row, words.get(fault["kind"], fault["kind"])) for row in rows([fault])}
        return sorted(marked)

    def rebuild(self, names: Iterable[str]) -> str:
        """Return the commands after which the corpus has the decisions on images of some sources."""
        build = command("build", *sorted(set(names)))
        return f"{build} && {self._merge}" if self._merge else build

    # ----------------------------------------------------------------------------------------------------------- asking

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, image: int) -> int | None:
        """Return the row of an image id."""
        place = int(np.searchsorted(self.ids, image, sorter=self._order))
        if place < len(self) and self.ids[self._order[place]] == image:
            return int(self._order[place])
        return None

    def find(self, source: str, key: str) -> int | None:
        """Return the row of a source's name and a key."""
        return self._by_key.get((source, key))

    @cached_property
    def _by_key(self) -> dict[tuple[str, str], int]:
        names = [source["name"] for source in self.corpus.sources]
        return {
            (names[n], key): row for row, (n, key) in enumerate(zip(self.sources, self._keys.to_pylist(), strict=True))
        }

    def key(self, row: int) -> str:
        return str(self._keys[row].as_py())

    def group(self, row: int) -> str:
        return str(self._groups[int(self._group_codes[row])].as_py())

    def state(self, row: int) -> str:
        return _STATES[self.states[row]]

    def members(self, row: int) -> list[int]:
        """Return the rows with pixels of the image's group, itself included, by key: frame 9 before frame 10."""
        same = np.flatnonzero((self.groups == self.groups[row]) & (self.images >= 0))
        keys = self._keys.take(same).to_pylist()
        return [int(same[n]) for n in sorted(range(len(same)), key=lambda n: counting(keys[n]))]

    def rows(self, query: Query) -> NDArray[np.int32]:
        """Return the rows that a query selects, in its order."""
        with self._lock:
            if query in self._answers:
                self._answers.move_to_end(query)
                return self._answers[query]
        rows = self._ordered(np.flatnonzero(self._mask(query)).astype(np.int32), query)
        with self._lock:
            self._answers[query] = rows
            while len(self._answers) > _CACHED:
                self._answers.popitem(last=False)
        return rows

    def counted(self, query: Query) -> list[dict[str, Any]]:
        """Every facet with the number of images of each value, given what is chosen in the other facets."""
        base = self._mask(query._replace(choices=(), groups=()))
        matches = {name: self.facets[name].matching(values, len(self)) for name, values in query.choices
                   if name in self.facets}  # fmt: skip
        if query.groups:
            matches["group"] = self._in_groups(query.groups)
        whole = base.copy()
        for mask in matches.values():
            whole &= mask
        answers = []
        for name, facet in self.facets.items():
            mask = whole
            if name in matches:
                mask = base.copy()
                for other, chosen in matches.items():
                    if other != name:
                        mask &= chosen
            chosen_values = dict(query.choices).get(name, ())
            counts = facet.counts(mask)
            values = [
                {"value": value, "count": int(count), "chosen": value in chosen_values}
                for value, count in zip(facet.values, counts, strict=True)
                if count or value in chosen_values
            ]
            if values:
                answers.append({"name": name, "title": facet.title, "values": values})
        return [*answers, self.groups_of(query)]

    def groups_of(self, query: Query, text: str = "") -> dict[str, Any]:
        """The largest groups of a query, as a facet; there may be as many groups as images. text: in their names.

        total: how many groups there are.
        """
        import pyarrow.compute as pc

        counts = np.bincount(self._group_codes[self._mask(query._replace(groups=()))], minlength=len(self._groups))
        if text:
            counts[~_numbers(pc.match_substring(self._groups, text.strip(), ignore_case=True), bool)] = 0
        groups = np.flatnonzero(counts)
        largest = groups[np.argsort(-counts[groups], kind="stable")[:_GROUPS]]
        names = {str(self._groups[int(n)].as_py()): int(counts[n]) for n in largest}
        chosen = {} if text else {name: names.get(name, self._sized(name, counts)) for name in query.groups}
        values = [
            {"value": name, "count": count, "chosen": name in query.groups} for name, count in (chosen | names).items()
        ]
        return {"name": "group", "title": "Group", "values": values, "total": len(groups)}

    def _sized(self, group: str, counts: NDArray[np.int64]) -> int:
        import pyarrow.compute as pc

        place = int(pc.index(self._groups, group).as_py())
        return int(counts[place]) if place >= 0 else 0

    def _mask(self, query: Query) -> NDArray[np.bool_]:
        mask = np.ones(len(self), bool)
        for name, values in query.choices:
            if name in self.facets:
                mask &= self.facets[name].matching(values, len(self))
        if query.groups:
            mask &= self._in_groups(query.groups)
        if query.text:
            import pyarrow.compute as pc

            text = query.text.strip()
            hits = _numbers(pc.match_substring(self._lower, text.lower()), bool)
            hits = hits | self._group_mask(lambda names, pc: pc.match_substring(names, text, ignore_case=True))
            if text.isdigit() and int(text) < 1 << 53 and (row := self.row(int(text))) is not None:
                hits[row] = True
            mask &= hits
        return mask

    def _in_groups(self, names: Sequence[str]) -> NDArray[np.bool_]:
        import pyarrow as pa

        wanted = pa.array(names, self._groups.type)
        return self._group_mask(lambda groups, pc: pc.is_in(groups, value_set=wanted))

    def _group_mask(self, test: Any) -> NDArray[np.bool_]:
        import pyarrow.compute as pc

        return np.asarray(_numbers(test(self._groups, pc), bool)[self._group_codes])

    def _ordered(self, rows: NDArray[np.int32], query: Query) -> NDArray[np.int32]:
        if query.like and (to := self.row(query.like)) is not None:
            differing = (self.phashes[rows] ^ self.phashes[to]).view(np.uint8).reshape(-1, 8)
            distance = np.unpackbits(differing, axis=1).sum(axis=1).astype(np.int16)
            distance[self.images[rows] < 0] = 255  # without pixels
            distance[rows == to] = -1
            return rows[np.argsort(distance, kind="stable")]
        values = {
            "annotations": -self.counts[rows], "largest": -self.largest[rows], "smallest": self.smallest[rows],
            "dice": self.worst[rows],
        }.get(query.order)  # fmt: skip
        return rows if values is None else rows[np.argsort(values, kind="stable")]

    def facts(self, row: int) -> dict[str, Any]:
        """Return all columns of an image's manifest row; for images of an own COCO file, those of the corpus."""
        import pyarrow.parquet as pq

        number = int(self.sources[row])
        source = self.corpus.sources[number]
        if source["slug"] == OWN:
            return dict.fromkeys(_COLUMNS) | {"id": int(self.ids[row]), "key": self.key(row)}
        place, path = int(row - self.starts[number]), Build(self.corpus.home / source["path"]).manifest
        file = pq.ParquetFile(path)
        for n in range(file.num_row_groups):
            rows = file.metadata.row_group(n).num_rows
            if place < rows:
                return dict(file.read_row_group(n).slice(place, 1).to_pylist()[0])
            place -= rows
        raise BuildError(f"{path} has changed since it was opened.", next="us43d view")


def _manifest(build: Path, corpus: Corpus, number: int) -> Any:
    """Return the columns of a build's manifest; derived from the corpus for a user's own COCO file."""
    import pyarrow as pa

    if corpus.sources[number]["slug"] != OWN:
        return Build(build).table(_COLUMNS)
    rows = np.flatnonzero(corpus.images["source"] == number)
    images = corpus.images[rows]
    columns: dict[str, Any] = {
        "id": images["id"], "key": [corpus.key(int(n)) for n in rows], "phash": np.zeros(len(rows), np.uint64),
        "group": [corpus.group(int(n)) for n in rows], "group_kind": [None] * len(rows),
        "official_split": [None] * len(rows), "height": images["height"], "width": images["width"],
        "tags": ["{}"] * len(rows), "remarks": ["[]"] * len(rows), "drop": [None] * len(rows),
    }  # fmt: skip
    kinds = {"id": pa.int64(), "phash": pa.uint64(), "height": pa.int32(), "width": pa.int32()}
    return pa.table({name: pa.array(values, kinds.get(name, pa.string())) for name, values in columns.items()})


# ------------------------------------------------------------------------------------------------------------- columns


def _numbers(column: Any, dtype: Any) -> NDArray[Any]:
    """Return a column of Arrow as a NumPy array, with 0 for null."""
    if hasattr(column, "combine_chunks"):
        column = column.combine_chunks()
    if column.null_count:
        column = column.fill_null(0)
    return np.asarray(column.to_numpy(zero_copy_only=False)).astype(dtype)


def _by_code(codes: NDArray[np.int32], values: Sequence[Any]) -> Iterable[tuple[Any, NDArray[np.int32]]]:
    """Yield (value, its rows)."""
    order = np.argsort(codes, kind="stable").astype(np.int32)
    bounds = np.searchsorted(codes[order], np.arange(len(values) + 1))
    for place, value in enumerate(values):
        yield value, order[bounds[place] : bounds[place + 1]]


def _unique_pairs(rows: NDArray[np.int32], codes: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the distinct pairs of row and code."""
    packed = np.unique((rows.astype(np.int64) << 32) | codes)
    return (packed >> 32).astype(np.int32), (packed & 0xFFFFFFFF).astype(np.int32)


def _facet(name: str, title: str, values: list[str], rows: Any, codes: Any) -> Facet:
    return Facet(name, title, values, np.asarray(rows, np.int32), np.asarray(codes, np.int32))


def _named(
    name: str,
    title: str,
    pairs: tuple[NDArray[np.int32], NDArray[np.int32]],
    names: Sequence[str],
    extra: tuple[NDArray[np.int32], Sequence[str]] | None = None,
) -> Facet:
    """Return a facet of pairs of row and number; several numbers may have one name, "" is skipped."""
    values = sorted({text for text in names if text} | set(extra[1] if extra else ()) - {""})
    place = {text: n for n, text in enumerate(values)}
    table = np.array([place.get(text, -1) for text in names] or [-1], np.int32)
    rows, codes = pairs[0], table[pairs[1]]
    if extra:
        rows = np.concatenate([rows, extra[0]])
        codes = np.concatenate([codes, np.array([place.get(text, -1) for text in extra[1]], np.int32)])
    kept = codes >= 0
    rows, codes = _unique_pairs(rows[kept], codes[kept])
    used = np.unique(codes)
    return _facet(name, title, [values[n] for n in used], rows, np.searchsorted(used, codes))


def _texts(name: str, title: str, rows: Sequence[int], texts: Sequence[str]) -> Facet:
    place = {text: n for n, text in enumerate(sorted(set(texts)))}
    return _facet(name, title, list(place), list(rows), [place[text] for text in texts])


def _blocks(name: str, title: str, blocks: Sequence[NDArray[Any]], texts: Sequence[str]) -> Facet:
    """Return a facet of blocks of rows that share a text."""
    place = {text: n for n, text in enumerate(sorted(set(texts)))}
    rows = np.concatenate([np.zeros(0, np.int32), *blocks])
    codes = np.repeat(np.array([place[text] for text in texts], np.int32), [len(block) for block in blocks])
    return _facet(name, title, list(place), rows, codes)
