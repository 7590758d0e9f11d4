"""The log of verdicts: only ever appended to, undone by a line of its own, sent to others, applied to links."""

import json
import re
from pathlib import Path

import pytest

from us43d.errors import BuildError, UsageError
from us43d.splits import duplicate_links, review
from us43d.splits.duplicate_links import Frame, Link
from us43d.splits.review import Picture

A, B, C = (Picture("busi", key, f"hash of {key}") for key in "abc")


def test_the_last_verdict_that_was_not_undone_holds(tmp_path: Path) -> None:
    assert review.decided(tmp_path) == []
    review.append(tmp_path, "near", "same", A, B, "eva")
    later = review.append(tmp_path, "near", "not the same", B, A, "kim")
    (verdict,) = review.decided(tmp_path)
    assert (verdict.verdict, verdict.who) == ("not the same", "kim")
    review.undo(tmp_path, later)
    (verdict,) = review.decided(tmp_path)
    assert (verdict.verdict, verdict.who) == ("same", "eva")
    with pytest.raises(UsageError, match="holds"):
        review.undo(tmp_path, later)
    assert len(review.log(tmp_path)) == 3


def test_what_stands_in_the_log_is_never_changed(tmp_path: Path) -> None:
    review.append(tmp_path, "near", "same", A, B)
    before = review.path(tmp_path).read_bytes()
    review.append(tmp_path, "mask", "wrong", C, None)
    assert review.path(tmp_path).read_bytes().startswith(before)


def test_a_line_that_was_torn_by_a_kill_is_passed_over(tmp_path: Path) -> None:
    review.append(tmp_path, "near", "same", A, B)
    whole = review.path(tmp_path).read_bytes()
    review.path(tmp_path).write_bytes(whole + b'{"id": "x", "wh')
    assert len(review.decided(tmp_path)) == 1
    review.append(tmp_path, "near", "unsure", A, C)
    assert len(review.decided(tmp_path)) == 2
    assert review.path(tmp_path).read_bytes().startswith(whole)


@pytest.mark.parametrize("line", ["{", "[]", "7", '{"id": "x"}', '{"id": "x", "when": "", "who": "", "kind": "near", '
                                  '"verdict": "<script>", "a": {}, "b": null}', "[" * 100_000])  # fmt: skip
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    review.append(tmp_path, "near", "same", A, B)
    with review.path(tmp_path).open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(BuildError, match="Line 2 of"):
        review.decided(tmp_path)


def test_verdicts_change_the_links_builds_apply(tmp_path: Path) -> None:
    duplicate_links.write(tmp_path, [Link(Frame(*A), Frame(*B))], {"busi": ""})
    assert duplicate_links.read(tmp_path) == [Link(Frame(*A), Frame(*B))]
    name = review.append(tmp_path, "near", "not the same", B, A)
    assert duplicate_links.read(tmp_path) == []
    review.append(tmp_path, "near", "same", C, A)
    assert duplicate_links.read(tmp_path) == [Link(Frame(*A), Frame(*C))]
    review.append(tmp_path, "near", "unsure", C, A)
    assert duplicate_links.read(tmp_path) == []
    review.undo(tmp_path, name)
    duplicate_links.write(
        tmp_path, duplicate_links.read(tmp_path), {}
    )  # an audit of other sources keeps what was found, not decided
    assert duplicate_links.read(tmp_path) == [Link(Frame(*A), Frame(*B))]


def test_export_and_import_once(tmp_path: Path) -> None:
    mine, theirs, file = tmp_path / "mine", tmp_path / "theirs", tmp_path / "verdicts.jsonl"
    review.append(mine, "near", "same", A, B, "eva")
    gone = review.append(mine, "near", "same", A, C, "eva")
    review.undo(mine, gone, "eva")
    file.write_bytes(review.export(mine))
    review.append(theirs, "mask", "wrong", C, None, "kim")
    assert review.import_file(theirs, file) == (3, 0)
    assert review.import_file(theirs, file) == (0, 3)
    assert {(v.who, v.verdict) for v in review.decided(theirs)} == {("kim", "wrong"), ("eva", "same")}


def test_a_foreign_file_is_refused_whole(tmp_path: Path) -> None:
    file = tmp_path / "verdicts.jsonl"
    review.append(tmp_path / "mine", "near", "same", A, B)
    file.write_bytes(review.export(tmp_path / "mine") + b'{"id": 1}\n')
    with pytest.raises(UsageError, match="not a file of verdicts"):
        review.import_file(tmp_path / "theirs", file)
    assert not review.path(tmp_path / "theirs").exists()
    with pytest.raises(UsageError):
        review.import_file(tmp_path / "theirs", tmp_path / "missing")


def test_an_unknown_verdict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="same, not the same, unsure"):
        review.append(tmp_path, "near", "perhaps", A, B)
    assert json.dumps(review.log(tmp_path)) == "[]"


def test_where_the_log_lies(tmp_path: Path) -> None:
    assert review.path(tmp_path) == tmp_path / "review" / "verdicts.jsonl"


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_line_whose_image_is_not_a_text_is_refused(tmp_path: Path, name: str) -> None:
    review.append(tmp_path, "near", "same", A, B)
    entry = json.loads(review.path(tmp_path).read_text())
    entry[name]["key"] = 7
    review.path(tmp_path).write_text(f"{json.dumps(entry)}\n")
    with pytest.raises(BuildError, match="Line 1 of"):
        review.decided(tmp_path)


def test_a_line_torn_behind_its_first_byte(tmp_path: Path) -> None:
    review.append(tmp_path, "near", "same", A, B)
    whole = review.path(tmp_path).read_bytes()
    review.path(tmp_path).write_bytes(whole + b"{")
    review.append(tmp_path, "near", "same", A, C)
    assert review.path(tmp_path).read_bytes().startswith(whole + b'{"')
    assert len(review.log(tmp_path)) == 2


def test_the_digest_of_links_tells_them_apart() -> None:
    one, other = Link(Frame(*A), Frame(*B)), Link(Frame(*A), Frame(*C))
    assert duplicate_links.digest([]) == ""
    digests = {duplicate_links.digest(links) for links in ([one], [other], [one, other])}
    assert len(digests) == 3
    assert {len(digest) for digest in digests} == {64}
    assert duplicate_links.digest([one, other]) == duplicate_links.digest([other, one])


@pytest.mark.parametrize(
    ("kind", "verdicts"),
    [
        ("near", ("same", "not the same", "unsure")),
        ("conflict", ("first is wrong", "second is wrong", "both are fine", "unsure")),
        ("mask", ("wrong", "fine", "unsure")),
        ("prediction", ("truth is wrong", "prediction is wrong", "unsure")),
    ],
)
def test_every_verdict_of_a_kind_is_read_back(tmp_path: Path, kind: str, verdicts: tuple[str, ...]) -> None:
    other = C if kind == "near" else None
    for verdict in verdicts:
        review.append(tmp_path, kind, verdict, A, None)
        review.append(tmp_path, kind, verdict, B, other)
        assert [(v.kind, v.verdict, v.a, v.b) for v in review.decided(tmp_path)] == [
            (kind, verdict, A, None), (kind, verdict, B, other),
        ]  # fmt: skip


def test_a_line_of_the_log_is_this(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("US43D_REVIEWER", "Åse")
    number = review.append_fix(tmp_path, A, "digest", [])
    review.undo(tmp_path, number, "kim")
    first, second = review.path(tmp_path).read_text("utf-8").splitlines()
    assert re.fullmatch(
        r'\{"fix": \{"key": "a", "picture": "hash of a", "source": "busi"\}, "id": "' + number + r'", "masks": \[\], '
        r'"replaces": "digest", "when": "\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "who": "Åse"\}',
        first,
    )
    assert json.loads(second)["undo"] == number
    assert review.fixes(tmp_path) == {}
    masks = (review.Mask("lesion", "abc"), review.Mask("lesion", "d"))
    review.append_fix(tmp_path, A, "digest", masks)
    assert review.fixes(tmp_path)["busi", "a"].masks == masks
    assert review.export(tmp_path) == review.path(tmp_path).read_bytes()


@pytest.mark.parametrize("field", ["replaces", "undo"])
def test_a_fix_or_an_undoing_whose_field_is_not_a_text_is_refused(tmp_path: Path, field: str) -> None:
    review.append_fix(tmp_path, A, "digest", [])
    entry = review.log(tmp_path)[0] | {field: 7}
    review.path(tmp_path).write_text(json.dumps(entry) + "\n")
    with pytest.raises(BuildError, match=f"Line 1 of .*{field} are texts"):
        review.log(tmp_path)


def test_unsure_and_verdicts_on_one_image_leave_links_as_they_are(tmp_path: Path) -> None:
    links = {(A, B)}
    review.append(tmp_path, "near", "unsure", A, B)
    review.append(tmp_path, "near", "same", C, None)
    review.append(tmp_path, "mask", "wrong", A, None)
    review.append(tmp_path, "conflict", "first is wrong", A, B)
    assert review.applied(links, tmp_path) == links


def test_an_audit_keeps_links_between_other_sources_and_replaces_its_own(tmp_path: Path) -> None:
    busi, brest, third = (Link(Frame(a, "a", "1"), Frame(b, "ä", "2")) for a, b in ("xx", "xy", "zz"))
    home = tmp_path / "new"
    assert duplicate_links.write(home, [busi, brest, third], {"x": "1", "y": "2", "z": "3"}) == 3
    assert duplicate_links.write(home, [], {"x": "4"}) == 2  # one between x and y is not of x alone
    assert duplicate_links.read(home) == [brest, third]
    assert duplicate_links.audited(home) == {"x": "4", "y": "2", "z": "3"}
    assert duplicate_links.write(home, [busi], {"x": "5", "y": "6"}) == 2
    assert duplicate_links.read(home) == [busi, third]
    stored = (home / "audit" / "near_duplicates.json").read_text("utf-8")
    assert stored.startswith('{\n "schema": 2,\n "audited"')
    assert '"ä"' in stored


def test_links_of_an_earlier_version_are_read_until_there_are_new_ones(tmp_path: Path) -> None:
    link = Link(Frame("x", "a", "1"), Frame("x", "b", "2"))
    (tmp_path / "audit").mkdir()
    content = {"schema": 1, "links": [{"a": link.a._asdict(), "b": link.b._asdict()}]}
    (tmp_path / "audit" / "twins.json").write_text(json.dumps(content))
    assert duplicate_links.read(tmp_path) == [link]
    assert duplicate_links.audited(tmp_path) == {}
    duplicate_links.write(tmp_path, [], {"x": "1"})
    assert duplicate_links.read(tmp_path) == []
    (tmp_path / "audit" / "near_duplicates.json").write_text(json.dumps(content | {"schema": 3}))
    with pytest.raises(BuildError, match="schema 3"):
        duplicate_links.read(tmp_path)
