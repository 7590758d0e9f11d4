"""Facts files: errors name the file, the table and the key; citations are read from the bibliography."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import pytest

from us43d import facts, registry
from us43d.errors import RecipeError

ROOT = Path(__file__).resolve().parents[2]
CACHES = (facts.facts, facts._cached, facts._json, facts._values, facts._references)


@pytest.fixture
def changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Write FOCUS's facts, with one text replaced by another, to a folder of its own."""
    monkeypatch.setattr(facts, "folder", lambda: tmp_path)
    for name in ("focus.toml", facts.REFERENCES):
        (tmp_path / name).write_bytes((ROOT / "recipes" / "facts" / name).read_bytes())

    def change(old: str, new: str, name: str = "focus.toml") -> None:
        text = (tmp_path / name).read_text()
        assert text.count(old) == 1, old
        (tmp_path / name).write_text(text.replace(old, new))
        clear()

    clear()
    yield change
    clear()


def clear() -> None:
    for function in CACHES:
        function.cache_clear()


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ('id = "CC-BY-4.0"', 'id = "CC-BY-9"', "[licence] id: 'CC-BY-9'"),
        ("images = 300", 'images = "300"', "[expect] images: Input should be a valid integer"),
        ('kind = "zenodo"', 'kind = "zenodoo"', "[[routes]] 1, kind: Input should be"),
        ('name = "FOCUS-dataset.zip"', 'name = "a/b.zip"', "[[routes]] 1, files, 1, name: 'a/b.zip' is not a plain"),
        ('kind = "human"', 'kind = "robot"', "kind: Input should be 'human'"),
        ('kind = "human"', 'kind = "human"\nsurprise = 1', "surprise: Extra inputs are not permitted"),
        ('group_kind = "image"\n', "", "group_kind: Field required"),
        ("access_checked = 2026-11-01", "access_checked = 2026-11-31", "is not valid TOML"),
        ('"focus2025"', '"focus2026"', "citations: focus2026 not in recipes/facts/references.bib"),
        ('title = "FOCUS', 'slug = "focus"\ntitle = "FOCUS', "the key slug is not allowed"),
        ("[labels]", '[[shares_with]]\nsource = "hc18"\nwhat = "patients"\n[labels]', "[[shares_with]] 1, evidence"),
        ("images = 300", "images = 300\nbyte = 4", "[expect] byte: Extra inputs"),
    ],
)
def test_a_fault_is_named_by_file_table_and_key(changed: Callable[..., None], old: str, new: str, where: str) -> None:
    changed(old, new)
    with pytest.raises(RecipeError) as caught:
        facts.facts("focus")
    assert caught.value.what.startswith("recipes/facts/focus.toml")
    assert where in caught.value.what
    assert len(str(caught.value).splitlines()) <= 3


def test_a_missing_or_damaged_file_is_named(changed: Callable[..., None]) -> None:
    with pytest.raises(RecipeError, match=r"recipes/facts/busi\.toml is missing"):
        facts.facts("busi")
    (facts.folder() / "focus.toml").write_bytes(b"\xff\xfe")
    clear()
    with pytest.raises(RecipeError, match=r"recipes/facts/focus\.toml is not valid UTF-8: byte 0xff at position 0"):
        facts.facts("focus")


def test_a_file_that_changes_during_a_run_is_read_anew_by_the_next(changed: Callable[..., None]) -> None:
    path = facts.folder() / "focus.toml"
    assert facts.facts("focus").expect.images == 300
    path.write_text(path.read_text().replace("images = 300", "images = 3000"))
    facts.every(["focus"])  # writes the cache
    clear()
    assert facts.facts("focus").expect.images == 3000


def test_facts_and_readers_come_in_pairs(changed: Callable[..., None]) -> None:
    (facts.folder() / "wrist_set.toml").write_text("")
    with pytest.raises(
        RecipeError, match=r"recipes/facts/wrist_set\.toml has no reader: recipes/wrist_set\.py is missing"
    ):
        facts.every(["focus"])
    with pytest.raises(RecipeError, match=r"recipes/facts/busi\.toml is missing; recipes/busi\.py needs it"):
        facts.every(["busi", "focus", "wrist_set"])


def test_the_bibliography_is_checked(changed: Callable[..., None]) -> None:
    changed("@misc{focus2025", "@misc{focus2025,\n  title={Twice}\n}\n\n@misc{focus2025", facts.REFERENCES)
    with pytest.raises(RecipeError, match=r"references\.bib is not valid BibTeX: two entries have the key 'focus2025'"):
        facts.facts("focus")


def test_bibtex_is_read() -> None:
    text = """A comment.
@article{one,
  title = {The {UltraSam} and
           {\\"u}ber},
  journal = "Data in Brief", volume = {28}, number = {2}, pages = {1--3}, year = 2020,
  doi={10.1/x}
}
@misc{two, title={Second}}
"""
    one, two = facts.parse_bibtex(text).values()
    assert (one.title, one.venue, one.year, one.doi) == (
        'The UltraSam and \\"uber',
        "Data in Brief 28(2): 1-3",
        2020,
        "10.1/x",
    )
    assert one.bibtex == text[text.index("@article") : text.index("@misc")].strip()
    assert (two.title, two.venue, two.year, two.doi) == ("Second", None, None, None)


def test_the_schema_is_that_of_the_models_and_all_facts_fit_it() -> None:
    assert json.loads((facts.folder() / "schema.json").read_text()) == facts.schema()
    validator = jsonschema.Draft202012Validator(facts.schema())
    everything = [source.model_dump(mode="json") for source in registry.sources()]
    assert list(validator.iter_errors(everything)) == []
    for change in ({"kind": "robot"}, {"surprise": 1}, {"access_checked": 5}, {"licence": {"id": "MIT"}}):
        assert list(validator.iter_errors([everything[0] | change])), change


def test_same_as_takes_what_is_not_given() -> None:
    mup, microseg = facts.facts("mup"), facts.facts("microseg")
    assert mup.routes == microseg.routes
    assert mup.name != microseg.name
    assert mup.paper != microseg.paper


def test_the_cache_is_used_and_never_outlives_a_change(
    changed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = facts.every(["focus"])
    assert (facts.folder() / "__pycache__" / "facts.json").is_file()
    clear()
    with monkeypatch.context() as patch:  # nothing is parsed again
        patch.setattr(facts, "_values", lambda slug: pytest.fail("parsed"))
        assert facts.every(["focus"]) == [first]
    changed("images = 300", "images = 301")
    assert facts.every(["focus"])[0].expect.images == 301


@pytest.mark.parametrize("content", [b"", b"[]", b'{"files": 1}', b"\xff", b'{"files": [], "facts": 3}'])
def test_a_damaged_cache_is_ignored(changed: Callable[..., None], content: bytes) -> None:
    facts.every(["focus"])
    (facts.folder() / "__pycache__" / "facts.json").write_bytes(content)
    clear()
    assert facts.every(["focus"])[0].name == "FOCUS"


def test_a_folder_that_cannot_be_written_is_no_obstacle(changed: Callable[..., None]) -> None:
    (facts.folder() / "__pycache__").write_text("a file where the folder should be")
    assert facts.every(["focus"])[0].name == "FOCUS"


def test_counts_prefer_what_a_build_must_reach() -> None:
    nerve, prostate, heart = facts.facts("us_nerve"), facts.facts("regpro"), facts.facts("echocp")
    assert (number := nerve.stated("images")) is not None
    assert number.value == nerve.expect.images == 5635
    assert (number := prostate.stated("images")) is not None
    assert number.estimate
    assert heart.stated("images") is None
