"""build, corpus, check, splits and the verbs that only tell, as a person types them; and one mistake of each kind."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from filelock import FileLock
from typer.testing import CliRunner

from us43d import registry
from us43d.contract import Recipe
from us43d.harmonize.built import Build
from us43d.harmonize.corpus import Corpus
from us43d.loading import latest
from us43d.paths import Home
from us43d.splits import review
from us43d.splits.review import Picture

app = importlib.import_module("us43d.cli.app").app


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def us43d(home: Home, *words: str) -> Said:
    result = CliRunner().invoke(app, [*words, "--home", str(home.root)])
    return Said(result.exit_code, result.stdout, result.stderr)


def fetched(home: Home, *names: str) -> None:
    assert us43d(home, "fetch", *names, "--specimen").code == 0


def opened(raw: Path) -> None:
    """Raw trees are read-only; a test that spoils one is a person with a text editor."""
    for path in (raw, *raw.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


# ----------------------------------------------------------------------------------------------------------- main job


def test_from_specimen_to_proven_splits(home: Home) -> None:
    fetched(home, "busi", "STU", "ddti")
    built = us43d(home, "build", "--all", "--jobs", "1")
    assert built.code == 0, built.err
    for text in ("BUSI", "STU-Hospital", "DDTI", "corpus us43d", "mask resized to its image"):
        assert text in built.out
    assert "16 images, 17 annotations, 14 groups" in built.out  # 16 images, of which known duplicates join three
    again = json.loads(us43d(home, "build", "--all", "--jobs", "1", "--json").out)
    assert [each["state"] for each in again] == ["unchanged", "unchanged", "unchanged", "merged"]
    checked = us43d(home, "check", "--all")
    assert (checked.code, checked.out.count("sound")) == (0, 3)
    proof = us43d(home, "splits")
    assert proof.code == 0
    assert "disjoint: none of" in proof.out
    corpus = json.loads(us43d(home, "corpus", "busi", "stu", "--release", "breast", "--json").out)
    assert corpus["sources"] == ["BUSI", "STU-Hospital"]
    assert (home.corpus("breast") / "corpus.json").is_file()
    listed = {row["name"]: row for row in json.loads(us43d(home, "list", "--json").out)}
    assert listed["BUSI"]["builds"] == ["r1s1-us43d-specimen"]
    assert listed["CAMUS"]["fetched"] is False


def test_pinned_splits_are_reproduced(home: Home) -> None:
    said = us43d(home, "splits", "--reproduce")
    assert said.code == 0
    assert "13 pinned splits computed again: 0 differences" in said.out


def test_a_build_names_the_corpora_that_are_older(home: Home) -> None:
    fetched(home, "busi", "stu")
    for words in (("build", "--all", "--jobs", "1"), ("corpus", "stu", "busi", "--release", "breast")):
        assert us43d(home, *words).code == 0
    assert "older build" not in us43d(home, "build", "stu", "--jobs", "1").err
    (build,) = home.builds("STU-Hospital").glob("r*")
    ends = [Picture("stu_hospital", row["key"], row["pixel_hash"]) for row in Build(build).rows[:2]]
    review.append(home.root, "near", "same", *ends)
    built = us43d(home, "build", "stu", "--jobs", "1").err
    for name, words in (("breast", "BUSI STU-Hospital --release breast"), ("us43d", "--all")):
        assert f"The corpus {name} has an older build of STU-Hospital.\nNext: us43d corpus {words}\n" in built
        assert us43d(home, "corpus", *words.split()).code == 0
        corpus = Corpus.open(home.corpus(name), home.root)
        keys = {corpus.key(n): n for n in range(len(corpus))}
        assert len({corpus.group(keys[end.key]) for end in ends}) == 1
    assert "older build" not in us43d(home, "build", "stu", "--jobs", "1").err


def test_partial_and_paper_are_builds_of_their_own(home: Home) -> None:
    fetched(home, "stu")
    assert us43d(home, "build", "stu", "--profile", "paper").code == 0
    assert us43d(home, "build", "stu").code == 0
    names = sorted(path.name for path in home.builds("STU-Hospital").glob("r*"))
    assert names == ["r1s1-paper-specimen", "r1s1-us43d-specimen"]
    path = latest(home, "STU-Hospital", "paper")
    assert path is not None
    assert path.name == "r1s1-paper-specimen"


@pytest.mark.parametrize(
    "words",
    [
        ("info", "BUSI"),
        ("taxonomy",),
        ("cite", "--all"),
        ("licences", "--all"),
        ("card", "busi"),
        ("doctor",),
        ("list",),
    ],
)
def test_verbs_that_tell_give_text_and_json(home: Home, words: tuple[str, ...]) -> None:
    plain = us43d(home, *words)
    assert plain.code == 0, plain.err
    assert len(plain.out.splitlines()) > 3
    assert json.loads(us43d(home, *words, "--json").out)
    assert not home.root.exists(), "telling makes no folder"


def test_every_verb_has_examples_in_its_help(home: Home) -> None:
    verbs = [command.name for command in app.registered_commands]
    assert {"list", "info", "fetch", "build", "check", "splits", "train", "eval", "predict", "demo", "doctor"} <= set(
        verbs
    )
    for name in verbs:
        said = CliRunner().invoke(app, [name, "--help"], env={"TERMINAL_WIDTH": "200"})
        assert said.exit_code == 0
        assert "Examples" in said.stdout, name
        assert f"us43d {name}" in said.stdout, name


# ----------------------------------------------------------------------------------------------------------- mistakes


def test_unknown_name(home: Home) -> None:
    said = us43d(home, "build", "BUSY")
    assert said.code == 2
    assert "No source is called 'BUSY'. Did you mean" in said.err
    assert "BUSI" in said.err.partition("\n")[0]
    assert "Next: us43d list" in said.err


def test_nothing_named_and_nothing_there(home: Home) -> None:
    assert us43d(home, "build").code == 2
    assert "us43d fetch --all" in us43d(home, "build", "--all").err
    assert "us43d build --all" in us43d(home, "splits").err
    said = us43d(home, "build", "BUSI")
    assert said.code == 1
    assert "BUSI is not fetched" in said.err
    assert "Next: us43d fetch BUSI" in said.err
    assert not home.root.exists()


def test_missing_mask(home: Home) -> None:
    fetched(home, "busi")
    raw = home.raw("BUSI")
    opened(raw)
    (raw / "Dataset_BUSI_with_GT/benign/benign (3)_mask.png").unlink()
    said = us43d(home, "build", "busi", "--jobs", "1")
    assert said.code == 1
    assert "benign (3)_mask.png is missing" in said.err
    assert latest(home, "BUSI") is None


def test_mask_of_another_size_that_no_rule_covers(home: Home) -> None:
    fetched(home, "busi")
    opened(home.raw("BUSI"))
    mask = home.raw("BUSI") / "Dataset_BUSI_with_GT/benign/benign (3)_mask.png"
    mask.write_bytes(cv2.imencode(".png", np.full((5, 7), 255, np.uint8))[1].tobytes())
    said = us43d(home, "build", "busi", "--jobs", "2")
    assert said.code == 1
    assert "benign (3).png: its mask is 7 × 5 pixels" in said.err
    assert "no build was written" in said.err
    assert latest(home, "BUSI") is None


def test_unreadable_image_among_several_sources(home: Home) -> None:
    fetched(home, "busi", "stu")
    opened(home.raw("BUSI"))
    image = home.raw("BUSI") / "Dataset_BUSI_with_GT/malignant/malignant (2).png"
    image.write_bytes(image.read_bytes()[:100])
    said = us43d(home, "build", "--all", "--jobs", "1", "--json")
    assert said.code == 3
    states = {each["name"]: each["state"] for each in json.loads(said.out)}
    assert states["BUSI"] == "failed"
    assert states["STU-Hospital"] == "built"
    assert "1 of 2 sources failed" in said.err


def test_the_last_step_helps_and_does_not_only_repeat_the_command(home: Home) -> None:
    """Below the reasons of each source stood the command that had failed."""
    fetched(home, "busi", "stu")
    receipts = [home.root / "downloads" / name / "receipt.json" for name in ("BUSI", "STU-Hospital")]
    specimen = receipts[1].read_text()
    for receipt in receipts:  # as a cut of the source: fewer images than published
        receipt.write_text(json.dumps(json.loads(receipt.read_text()) | {"kind": "given"}))
    said = us43d(home, "build", "BUSI", "STU-Hospital", "--jobs", "1")
    assert said.err.splitlines()[-1] == "Next: us43d build BUSI STU-Hospital   # after the commands above"
    receipts[1].write_text(specimen)
    said = us43d(home, "build", "BUSI", "STU-Hospital", "--jobs", "1")
    assert "1 of 2 sources failed" in said.err
    assert said.err.splitlines()[-1].startswith("Next: us43d build BUSI --partial   ")


def test_edited_build_is_found_by_check(home: Home) -> None:
    fetched(home, "stu")
    assert us43d(home, "build", "stu").code == 0
    path = latest(home, "STU-Hospital")
    assert path is not None
    image = next((path / "images").rglob("*.png"))
    data = bytearray(image.read_bytes())
    data[-20] ^= 1
    image.unlink()
    image.write_bytes(data)
    said = us43d(home, "check", "stu")
    assert said.code == 1
    assert image.name in said.err


def test_commercial_refuses_and_names(home: Home) -> None:
    fetched(home, "stu", "camus")
    said = us43d(home, "build", "--all", "--commercial")
    assert said.code == 4
    assert "forbidden by CAMUS" in said.err
    assert "not settled for STU-Hospital" in said.err
    assert latest(home, "CAMUS") is None


def test_second_process_at_work(home: Home) -> None:
    fetched(home, "stu")
    home.builds("STU-Hospital").mkdir(parents=True)
    with FileLock(home.builds("STU-Hospital") / ".lock"):
        said = us43d(home, "build", "stu")
    assert said.code == 1
    assert "STU-Hospital is being built by another process" in said.err
    assert us43d(home, "build", "stu").code == 0


def test_home_that_cannot_be_written(home: Home) -> None:
    fetched(home, "stu")
    home.root.joinpath("build").write_text("a file where a folder should be")
    said = us43d(home, "build", "stu")
    assert said.code == 1
    assert str(home.root / "build") in said.err
    assert "Traceback" not in said.err


def test_interrupted_build_goes_on(home: Home, tmp_path: Path) -> None:
    recipe = registry.recipe("bus_uc")
    raw = home.raw(recipe.name)
    raw.mkdir(parents=True)
    registry.specimen("bus_uc")(raw, np.random.default_rng(1), 30)
    command = [sys.executable, "-m", "us43d", "build", "bus_uc", "--partial", "--jobs", "1", "--home", str(home.root)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not list(home.builds(recipe.name).glob(".*/blocks/*.jsonl")) and time.monotonic() < until:
        assert running.poll() is None, running.communicate()
        time.sleep(0.005)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, (out, err)
    assert "Interrupted" in err
    assert "Next: us43d build bus_uc --partial" in err
    assert latest(home, recipe.name) is None
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True, env=os.environ)
    whole = Home(tmp_path / "other")
    whole.raw(recipe.name).parent.mkdir(parents=True)
    whole.raw(recipe.name).symlink_to(raw)
    fresh = us43d(whole, "build", "bus_uc", "--partial", "--jobs", "1", "--json")
    assert json.loads(done.stdout)[0]["result"]["digest"] == json.loads(fresh.out)[0]["result"]["digest"]


# ------------------------------------------------------------------------------------- what a corpus takes by default


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """STU-Hospital is made a set of animals, DDTI one of the external tier."""
    changes = {"stu_hospital": {"kind": "animal"}, "ddti": {"external_tier": True}}
    original = registry.recipe

    def recipe(slug: str) -> Recipe:
        return original(slug).model_copy(update=changes.get(slug, {}))

    monkeypatch.setattr(registry, "recipe", recipe)


@pytest.mark.usefixtures("marked")
def test_animals_and_the_external_tier_are_left_out_unless_asked_for(home: Home) -> None:
    def sources(*words: str) -> list[str]:
        said = us43d(home, *words, "--json")
        assert said.code == 0, said.err
        return json.loads(said.out)["sources"]

    fetched(home, "busi", "stu", "ddti")
    said = us43d(home, "build", "--all")
    assert said.code == 0, said.err
    assert "Not in the corpus: STU-Hospital (animal). Add them with --include animal." in said.err
    assert "Not in the corpus: DDTI (external). Add them with --include external." in said.err
    assert all(latest(home, name) for name in ("BUSI", "STU-Hospital", "DDTI"))  # they are built all the same
    assert sources("corpus", "--all") == ["BUSI"]
    assert sources("corpus", "--all", "--include", "animal") == ["BUSI", "STU-Hospital"]
    assert sources("corpus", "--all", "--include", "animal", "--include", "external") == [
        "BUSI", "DDTI", "STU-Hospital"
    ]  # fmt: skip
    assert sources("corpus", "stu", "ddti") == ["DDTI", "STU-Hospital"]
    said = us43d(home, "corpus", "--collection", "us43d", "--json")
    assert (json.loads(said.out)["release"], json.loads(said.out)["sources"]) == ("us43d", ["BUSI"])
    said = us43d(home, "corpus", "--collection", "beyond")
    assert said.code == 2
    assert "No built sources of the collection beyond found in" in said.err


@pytest.mark.usefixtures("marked")
def test_training_on_the_external_tier_needs_a_word(home: Home) -> None:
    fetched(home, "ddti")
    assert us43d(home, "build", "ddti", "--release", "held").code == 0
    words = (
        "train", "--corpus", "held", "--preset", "tiny", "--steps", "2", "--set", "model.image_size=64",
        "--set", "model.depth=2", "--set", "model.global_blocks=[1]", "--set", "micro_batch=2", "--set", "batch=2",
    )  # fmt: skip
    said = us43d(home, *words)
    assert said.code == 2
    assert "DDTI of the external tier: reserved for comparing models, not for training." in said.err
    assert not (home.runs / "tiny" / "checkpoints").exists()
    said = us43d(home, *words, "--allow-external")
    assert said.code == 0, said.err
    assert us43d(home, "corpus", "ddti", "--release", "another").code == 0
    said = us43d(home, "train", "--run", "tiny", "--resume")  # its log names the one of the two corpora
    assert said.code == 0, said.err


def test_list_keeps_animals_apart_and_counts_what_is_unpublished(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {source.slug: source for source in registry.sources()}
    busi, stu, camus = known["busi"], known["stu_hospital"].model_copy(update={"kind": "animal"}), known["camus"]
    camus = camus.model_copy(update={"published": camus.published.model_copy(update={"images": None})})
    monkeypatch.setattr(registry, "sources", lambda home: [stu, busi, camus])
    said = us43d(home, "list")
    people, apart = said.out.split("Animals, synthetic images and derived masks")
    assert "BUSI" in people
    assert "STU" not in people
    assert "breast (animal)" in apart
    assert (
        "3 sources of US-43d with 822 published frames, with and without masks; no number is published for 1 of them"
        in said.err
    )
    assert [entry["kind"] for entry in json.loads(us43d(home, "list", "--json").out)] == ["human", "human", "animal"]
    assert us43d(home, "list", "--collection", "beyond").out.count("\n") <= 3
