"""The log of verdicts: only ever appended to, undone by a line of its own, sent to others, applied to links."""

import json
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
