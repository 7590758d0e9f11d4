"""us43d eval and us43d weights, on a specimen's corpus and weights of random numbers."""

import importlib
import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from us43d.harmonize.merge import merge
from us43d.model import published, weights
from us43d.model.network import PRESETS, UltraSam

Run = Callable[..., tuple[int, str, str]]

SMALL = PRESETS["tiny"].model_copy(update={"depth": 2, "global_blocks": (1,), "image_size": 64})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, built: Callable) -> Path:
    """A home with one corpus of two sources, and two sets of weights."""
    home, paths = built(tmp_path_factory.mktemp("verbs"), "stu_hospital", "busi")
    merge(paths, home.root, "us43d")
    for seed, name in enumerate(("one", "two")):
        weights.save(UltraSam.random(SMALL, seed), home.weights / name)
    return home.root


def runner(home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("US43D_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "200")
    app = importlib.import_module("us43d.cli.app").app

    def run(*words: str | Path) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert "Traceback" not in result.output
        return result.exit_code, result.stdout, result.stderr

    return run


@pytest.fixture
def run(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    torch.set_num_threads(1)
    return runner(corpus, monkeypatch)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """In an empty home."""
    return runner(tmp_path / "home", monkeypatch)


# ---------------------------------------------------------------------------------------------------------------- eval

QUICK = ("--prompt", "box", "--clicks", "0")


@pytest.mark.parametrize("extra", [(), ("--structures",), ("--clips",)])
def test_eval_refuses_a_folder_with_a_file_of_the_user_before_it_evaluates(
    run: Run, tmp_path: Path, extra: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "page.html").write_text("mine")
    monkeypatch.setattr("us43d.cli.eval.weights_of", lambda *_: pytest.fail("the weights were opened"))
    code, _, err = run("eval", "--weights", "one", "--all", *extra, "--out", tmp_path / "e")
    assert code == 1
    assert f"--out {tmp_path / 'e-2'}" in err
    assert (tmp_path / "e" / "page.html").read_text() == "mine"


def test_eval_of_one(run: Run, tmp_path: Path) -> None:
    code, out, err = run("eval", "--weights", "one", "--all", *QUICK, "--out", tmp_path / "e", "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["facts"]["sources"] == ["BUSI", "STU-Hospital"]
    assert {entry["weights"] for entry in said["summary"]} == {"one", "ellipse"}
    assert {path.name for path in (tmp_path / "e").iterdir()} == {
        ".us43d-results", "metrics.json", "instances.parquet", "measurements.parquet", "table.md", "page.html",
    }  # fmt: skip
    from us43d.cli import eval as verb

    assert {path.name for path in (tmp_path / "e").iterdir()} - {".us43d-results"} <= set(verb._FILES)  # checked first
    written = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert written == {key: said[key] for key in written}


def test_several_sources_follow_one_on(run: Run, corpus: Path, tmp_path: Path) -> None:
    words = ("eval", "--on", "stu", "busi", "--weights", corpus / "weights" / "one", "--limit", "2", "--clicks", "0")
    code, out, err = run(*words, "--prompt", "box", "--out", tmp_path / "e", "--json")
    assert code == 0, err
    assert sorted(json.loads(out)["facts"]["sources"]) == ["BUSI", "STU-Hospital"]


def test_eval_of_one_source_as_published(run: Run, corpus: Path, tmp_path: Path) -> None:
    words = ("eval", "--weights", corpus / "weights" / "one", "--on", "stu", "--protocol", "paper", "--limit", "2")
    code, out, err = run(*words, "--out", tmp_path / "e")
    assert code == 0, err
    assert "Split test of STU-Hospital: " in out
    assert "COCO average precision, class-agnostic" in out
    assert "BUSI" not in out
    assert "page.html with images" in err


def test_eval_compares_weights_of_one_run_and_of_two(run: Run, tmp_path: Path) -> None:
    code, out, err = run("eval", "--compare", "one", "two", "--all", *QUICK, "--out", tmp_path / "both", "--json")
    assert code == 0, err
    both = json.loads(out)
    assert (both["first"], both["second"]) == ("one", "two")
    for name in ("one", "two"):
        assert run("eval", "--weights", name, "--all", *QUICK, "--out", tmp_path / name)[0] == 0
    code, out, _ = run("eval", "--compare", tmp_path / "one", tmp_path / "two", "--json")
    assert code == 0
    assert json.loads(out)["differences"] == both["differences"]
    code, out, _ = run("eval", "--compare", "one", "ellipse", "--all", *QUICK, "--out", tmp_path / "base")
    assert code == 0
    assert "one minus ellipse, paired by instance" in out


def test_public_weights_on_disk_are_in_the_table(run: Run, corpus: Path, tmp_path: Path) -> None:
    held = weights.Loaded(UltraSam.random(SMALL, 5).state_dict(), SMALL, "us43d")
    place = corpus / "weights" / "medsam.pth"
    weights.export(held, place, "us43d")
    words = ("eval", "--weights", "one", "--all", *QUICK, "--json")
    try:
        found = json.loads(run(*words, "--out", tmp_path / "a")[1])
        assert found["facts"]["weights"] == ["one", "medsam"]
        found = json.loads(run(*words, "--out", tmp_path / "b", "--no-baselines")[1])
        assert found["facts"]["weights"] == ["one"]
    finally:
        for file in place.iterdir():
            file.unlink()
        place.rmdir()


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("--weights", "one"), 2, "Give either --on with source names, or --all."),
        (("--weights", "one", "--all", "--on", "busi"), 2, "Give either --on with source names, or --all."),
        (("--weights", "three", "--all"), 1, "Unknown weights 'three'"),
        (("--weights", "sam_vit_b", "--all"), 1, "Next: us43d weights get sam_vit_b"),
        (("--weights", "one", "--on", "bussi"), 2, "BUSI"),
        (("--weights", "one", "--on", "camus"), 2, "Unknown source 'camus'. Known: BUSI, STU-Hospital."),
        (("--weights", "one", "--all", "--corpus", "other"), 2, "No corpus 'other' found"),
        (("--weights", "one", "--all", "--clicks", "one"), 2, "Invalid --clicks 'one'"),
        (("--weights", "one", "--all", "--prompt", "line"), 2, "Unknown first prompt line"),
        (("--weights", "one", "--all", "--device", "cuda:99"), 2, "Device 'cuda:99' not found."),
        (("--weights", "one", "--all", "--commercial"), 4, "Commercial use is not settled for BUSI, STU-Hospital"),
        (("--compare", "one", "nowhere", "--all"), 1, "Unknown weights 'nowhere'"),
    ],
)
def test_eval_refuses(run: Run, words: tuple[str, ...], code: int, why: str) -> None:
    found, out, err = run("eval", *words)
    assert found == code
    assert why in err
    assert out == ""


def test_eval_without_a_corpus(alone: Run, corpus: Path) -> None:
    code, _, err = alone("eval", "--weights", corpus / "weights" / "one", "--all")
    assert code == 2
    assert "No corpus found in" in err
    assert "Next: us43d build --all" in err


# ------------------------------------------------------------------------------------------------------------- weights


def test_show(run: Run, corpus: Path) -> None:
    listing = json.loads(run("weights", "show", "--json")[1])
    names = {each["name"]: each for each in listing}
    assert set(published.PUBLISHED) | {"one", "two", "us43d-small"} == set(names)
    assert names["one"]["path"] == str(corpus / "weights" / "one")
    assert names["ultrasam"]["licence"] == "CC-BY-NC-SA-4.0"
    held = json.loads(run("weights", "show", "one", "--json")[1])
    assert (held["form"], held["config"]["image_size"]) == ("us43d", 64)
    assert held["parameters"] == sum(value.numel() for value in UltraSam.random(SMALL, 0).state_dict().values())


def test_in_and_out(alone: Run, corpus: Path, tmp_path: Path) -> None:
    double = SMALL.model_copy(update={"mlp_residual": "double"})
    held = weights.Loaded(UltraSam.random(double, 1).state_dict(), double, "us43d")
    weights.export(held, tmp_path / "UltraSam.pth", "ultrasam")
    code, out, _ = alone("weights", "import", tmp_path / "UltraSam.pth", "--name", "mine")
    assert code == 0
    assert "double residual, from the form ultrasam" in out
    kept = weights.load(tmp_path / "home" / "weights" / "mine")
    assert (kept.form, kept.config.mlp_residual) == ("us43d", "double")
    assert all(torch.equal(kept.state[name], value) for name, value in held.state.items())
    code, _, err = alone("weights", "import", tmp_path / "UltraSam.pth", "--name", "mine")
    assert (code, "already exists" in err) == (2, True)
    assert alone("weights", "import", tmp_path / "UltraSam.pth", "--name", "mine", "--force")[0] == 0
    assert alone("weights", "import", tmp_path / "UltraSam.pth", "--name", "../mine")[0] == 2
    code, out, _ = alone("weights", "export", "mine", tmp_path / "hf", "--to", "huggingface", "--json")
    assert code == 0
    assert "halved" in json.loads(out)["notes"][0]
    assert weights.load(tmp_path / "hf").form == "huggingface"
    code, _, err = alone("weights", "export", "mine", tmp_path / "hf", "--to", "huggingface")
    assert (code, "already exists" in err) == (2, True)
    for name, out in (("us43d-small", "copy"), (tmp_path / "copy", "again")):
        assert alone("weights", "export", name, tmp_path / out, "--to", "us43d")[0] == 0
        assert "CC BY 4.0" in (tmp_path / out / "MODEL_CARD.md").read_text("utf-8"), "the licence goes along"
    code, _, err = alone("weights", "export", "none", tmp_path / "x", "--to", "meta")
    assert (code, "Unknown weights 'none'" in err) == (1, True)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """(folder, address, paths asked for) of a server on loopback."""
    folder = tmp_path / "served"
    folder.mkdir()
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_get(alone: Run, served: tuple[Path, str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    folder, base, asked = served
    held = weights.Loaded(UltraSam.random(SMALL, 1).state_dict(), SMALL, "us43d")
    weights.export(held, folder / "small.pth", "meta")
    data = (folder / "small.pth").read_bytes()
    known = published.PUBLISHED["sam_vit_b"]._replace(
        url=f"{base}/small.pth", size=len(data), md5=hashlib.md5(data).hexdigest(), sha256=None
    )
    monkeypatch.setitem(published.PUBLISHED, "sam_vit_b", known)
    code, _, err = alone("weights", "get", "sam_vit_b")
    assert code == 4
    assert "The licence of sam_vit_b, Apache-2.0, was not accepted." in err
    assert asked == []
    code, out, err = alone("weights", "get", "sam_vit_b", "--accept-licence", "--json")
    assert code == 0, err
    said = json.loads(out)
    assert (said["bytes"], said["trust"], said["fetched"]) == (len(data), "published digest", True)
    file = tmp_path / "home" / "weights" / "sam_vit_b.pth"
    assert file.read_bytes() == data
    assert json.loads(file.with_suffix(".json").read_text())["sha256"] == hashlib.sha256(data).hexdigest()
    assert weights.load(file).form == "meta"
    before = len(asked)
    assert "already exists" in alone("weights", "get", "sam_vit_b")[1]
    assert len(asked) == before
    # What nobody has published a digest of is recorded, and a change noticed.
    monkeypatch.setitem(published.PUBLISHED, "sam_vit_b", known._replace(size=None, md5=None))
    assert alone("weights", "get", "sam_vit_b", "--force")[0] == 0
    (folder / "small.pth").write_bytes(data[:-1] + b"x")
    code, _, err = alone("weights", "get", "sam_vit_b", "--force")
    assert code == 1
    assert file.read_bytes() == data
    code, _, err = alone("weights", "get", "sam_vit_x")
    assert (code, "one of sam_vit_b, sam_vit_l" in err) == (2, True)


def test_get_refuses_another_file(
    alone: Run, served: tuple[Path, str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, base, _ = served
    (folder / "page.pth").write_bytes(b"<!doctype html><title>Sign in</title>")
    known = published.PUBLISHED["sam_vit_b"]._replace(url=f"{base}/page.pth")
    monkeypatch.setitem(published.PUBLISHED, "sam_vit_b", known)
    code, _, _ = alone("weights", "get", "sam_vit_b", "--accept-licence")
    assert code == 1
    assert not (tmp_path / "home" / "weights" / "sam_vit_b.pth").exists()


def test_what_is_published_is_complete() -> None:
    for name, each in published.PUBLISHED.items():
        assert each.name == name
        assert each.url.startswith("https://")
        assert each.evidence
        # Meta's file names begin with their md5.
        if name.startswith("sam_vit"):
            assert each.md5 is not None
            assert each.url.endswith(f"_{each.md5[:6]}.pth")
