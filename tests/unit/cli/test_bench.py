"""us43d bench: a run on a specimen's corpus, merging, what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from us43d.bench import definition
from us43d.bench.leaderboard import LEGEND
from us43d.harmonize.merge import merge
from us43d.model import weights
from us43d.model.network import PRESETS, UltraSam

from .runs import run


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, built: Callable) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    home, builds = built(folder, "stu_hospital")
    merged = merge(builds, home.root, "us43d")
    facts = json.loads((merged.path / "corpus.json").read_text())
    facts["sources"][0]["specimen"] = True
    (merged.path / "corpus.json").write_text(json.dumps(facts))
    small = PRESETS["tiny"].model_copy(update={"depth": 1, "global_blocks": (0,), "image_size": 64})
    weights.save(UltraSam.random(small, 0), home.weights / "one")
    quick = definition.read("specimens-1").model_copy(update={"corruptions": ("jpeg",), "clicks": (0,)})
    (folder / "quick.json").write_text(quick.model_dump_json())
    return home.root


def test_a_run_and_a_merge(home: Path, tmp_path: Path) -> None:
    quick = home.parent / "quick.json"
    code, out, err = run("bench", quick, "--weights", "one", "--home", home, "--out", tmp_path / "a", "--json")
    assert code == 0, err
    said = json.loads(out)
    assert {model["name"] for model in said["models"]} == {"one", "us43d-small", "ellipse-disc"}
    assert "ultrasam" in said["missing_weights"]
    assert "imagenet_vit_b" not in said["missing_weights"]  # it segments nothing
    assert "<img" in (tmp_path / "a" / "page.html").read_text()
    files = [tmp_path / "a" / f"{name}.json" for name in ("one", "us43d-small", "ellipse-disc")]
    merged = [word for file in files for word in ("--merge", file)]
    code, out, err = run("bench", *merged, "--out", tmp_path / "b", "--json")
    assert code == 0, err
    board = json.loads((tmp_path / "b" / "leaderboard.json").read_text())
    assert board == json.loads((tmp_path / "a" / "leaderboard.json").read_text())
    code, out, err = run("bench", "--merge", tmp_path / "a", "--merge", files[0], "--out", tmp_path / "c", "--json")
    assert code == 0, err
    assert "a JSON file per model" not in err
    assert board == json.loads((tmp_path / "c" / "leaderboard.json").read_text())
    code, out, _ = run("bench", "--merge", tmp_path / "a", "--out", tmp_path / "d")
    assert code == 0
    assert LEGEND in out
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "cut.json").write_text(files[0].read_text()[:-20])
    (tmp_path / "empty.json").write_text("{}")
    for place, said in ((tmp_path / "a" / "leaderboard.json", "the table of several"),
                        (tmp_path / "empty.json", "it lacks digest, definition"),
                        (tmp_path / "list.json", "not hold a JSON object"), (tmp_path / "cut.json", "not hold valid"),
                        (tmp_path / "away.json", "No such file"), (home, "holds no benchmark result")):  # fmt: skip
        code, _, err = run("bench", "--merge", place)
        assert code == 2
        assert said in err


def test_weights_that_cannot_be_read(home: Path) -> None:
    broken = home / "weights" / "sam_vit_b.pth"
    broken.write_bytes(b"no zip file")
    try:
        code, _, err = run("bench", home.parent / "quick.json", "--home", home)
    finally:
        broken.unlink()
    assert code == 1
    assert "Next: us43d weights get sam_vit_b --force   # or the same with --no-baselines" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Missing benchmark"),
        (("nothing",), "Unknown benchmark"),
        (("specimens-1", "--no-baselines"), "Missing --weights"),
        (("us43d-1",), "synthetic sample datasets"),
        (("us43d-1", "--merge", "x.json"), "Omit the benchmark"),
        (("--merge", "x.json"), "not a benchmark result"),
    ],
)
def test_what_is_refused(home: Path, words: tuple[str, ...], said: str) -> None:
    code, _, err = run("bench", *words, "--home", home)
    assert code in (1, 2)
    assert said in err
    assert len(err.strip().splitlines()) <= 3


@pytest.mark.parametrize("name", ["us43d-small.json", "page.html"])
def test_a_file_of_the_user_is_found_before_models_are_run(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).write_text("mine")
    monkeypatch.setattr("us43d.bench.run.run", lambda *_: pytest.fail("the models were run"))
    code, _, err = run("bench", home.parent / "quick.json", "--weights", "one", "--home", home, "--out", tmp_path)
    assert code == 1
    assert f"{tmp_path / name} exists, and is not recorded as a result of us43d." in err
    assert (tmp_path / name).read_text() == "mine"
