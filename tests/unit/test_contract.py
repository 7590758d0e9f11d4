import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from us43d import registry
from us43d.contract import Lazy, Licence, RawFile, Recipe, Remarked, Sample, lazy, paths_in
from us43d.errors import RecipeError, UnknownName, Us43dError, VerifyError, listed
from us43d.harmonize import taxonomy


def twice(x: int) -> int:
    CALLS.append(x)
    return 2 * x


def remarked(x: int) -> Remarked:
    return Remarked(np.full(1, x), ("odd",))


CALLS: list[int] = []


def test_lazy_reads_each_node_once() -> None:
    CALLS.clear()
    inner = lazy(twice, 3)
    memo: dict[Lazy, Any] = {}
    assert lazy(twice, inner).read(memo, []) == 12
    assert lazy(twice, lazy(twice, inner)).read(memo, []) == 24
    assert CALLS == [3, 6, 12]


def test_lazy_hands_on_remarks() -> None:
    remarks: list[str] = []
    assert lazy(remarked, 4).read({}, remarks)[0] == 4
    assert remarks == ["odd"]


def test_paths_in_finds_every_file() -> None:
    a, b, c = Path("a"), Path("b"), Path("c")
    sample = Sample(
        key="k", image=a, masks={"x": (lazy(twice, lazy(twice, b)),)}, instances={"y": (lazy(twice, c, 1),)}
    )
    assert list(paths_in(sample)) == [a, b, c]


def _altered(**changes: Any) -> dict[str, Any]:
    recipe = registry.recipe("stu_hospital")
    return {name: getattr(recipe, name) for name in Recipe.model_fields} | changes


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"name": "a b"}, "pattern"),
        ({"surprise": 1}, "Extra inputs"),
        ({"routes": ()}, "no route says where"),
        ({"revision": 2}, "no entry in `changes`"),
        ({"diagnoses": {"cyst": "benign"}}, "labels that are not in `labels`"),
        ({"labels": {"a": "Not A Slug"}}, "pattern"),
        ({"citations": ()}, "has a homepage and citations"),
        ({"access_checked": "2026-11-01"}, "valid date"),
        ({"row": None}, "if and only if it has a `row`"),
        ({"collections": ("us43d", "beyond")}, "exactly one of the collections"),
        ({"access": "private"}, "access is private if and only if"),
    ],
)
def test_impossible_facts_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Recipe(**_altered(**changes))


def test_a_file_name_cannot_leave_its_folder() -> None:
    for name in ("../x", "a/b", "", ".."):
        with pytest.raises(ValidationError, match="plain file name"):
            RawFile(name=name)


def test_a_source_may_state_more_than_its_licence() -> None:
    terms = Licence(id="CUSTOM", evidence="e", commercial=False, name="Research Use").terms
    assert (terms.commercial, terms.redistribute, terms.title) == (False, None, "Research Use")
    assert Licence(id="CC-BY-4.0", evidence="e").terms.commercial is True
    with pytest.raises(ValidationError, match="not a known licence id"):
        Licence(id="CC-BY-9", evidence="e")


def test_names_are_found_whatever_their_spelling() -> None:
    for name in ("STU-Hospital", "stu hospital", "STU_HOSPITAL", "stu"):
        assert registry.find(name).slug == "stu_hospital"
    with pytest.raises(UnknownName, match="Did you mean STU-Hospital") as caught:
        registry.find("STU-Hospitol")
    assert caught.value.exit_code == 2
    assert caught.value.next == "us43d list"


def test_errors_survive_a_process_boundary() -> None:
    error = pickle.loads(pickle.dumps(VerifyError("w", disk="d", next="n")))  # noqa: S301  # our own
    assert (type(error), error.what, error.disk, error.next) == (VerifyError, "w", "d", "n")
    assert str(error) == "w\nd\nNext: n"


def test_every_error_is_drawn_in_the_tree() -> None:
    from us43d import errors

    tree = errors.__doc__ or ""
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, Us43dError)]
    assert [k.__name__ for k in kinds if k.__name__ not in tree] == []
    assert [k.__name__ for k in kinds if k.__name__ not in errors.__all__] == []


def test_long_lists_are_cut() -> None:
    assert listed(range(4), 2) == "0, 1 … and 2 more"


def test_a_module_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        compile("def (", "recipes/stu_hospital.py", "exec")

    registry.recipe.cache_clear()
    monkeypatch.setattr(registry.importlib, "import_module", broken)
    with pytest.raises(RecipeError, match=r"recipes/stu_hospital\.py cannot be imported: .*line 1"):
        registry.recipe("stu_hospital")
    registry.recipe.cache_clear()


def test_a_name_of_two_sources_names_both_files(monkeypatch: pytest.MonkeyPatch) -> None:
    registry._by_name.cache_clear()
    twice = [registry.look_up("busi"), registry.look_up("focus").model_copy(update={"aliases": ("Dataset_BUSI",)})]
    monkeypatch.setattr(registry, "every", lambda _: twice)
    with pytest.raises(
        RecipeError, match=r"'Dataset_BUSI' is a name or alias in both recipes/facts/busi\.toml and recipes/facts/focus"
    ):
        registry.look_up("no such name")
    with pytest.raises(RecipeError, match="'Dataset_BUSI' is a name or alias in both"):
        registry.sources()
    registry._by_name.cache_clear()


@pytest.mark.parametrize(("key", "value"), [("id", 1), ("name", "breast_lesion")])
def test_a_structure_that_stands_twice_is_named(key: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"version": 1, "categories": [
        {"id": 1, "name": "breast_lesion", "organ": "breast", "synonyms": [], "codes": []},
        {"id": 2, "name": "needle", "organ": "device", "synonyms": [], "codes": []} | {key: value},
    ]}  # fmt: skip
    taxonomy.taxonomy.cache_clear()
    monkeypatch.setattr(taxonomy.json, "loads", lambda _: content)
    with pytest.raises(RecipeError, match=f"taxonomy.json has two structures of the {key} {value!r}"):
        taxonomy.taxonomy()
    taxonomy.taxonomy.cache_clear()
