"""Exports to and corpora from an S3 server on loopback."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from us43d import export
from us43d.errors import BuildError, StorageError, TrainError
from us43d.export import run as running
from us43d.export.check import check
from us43d.export.selection import Options
from us43d.harmonize import remote
from us43d.harmonize.corpus import Corpus

moto = pytest.importorskip("moto.server", reason="moto is not installed: it is the S3 server of these tests")
pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'us43d[export]'")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def server():
    running_server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running_server.start()
    host, port = running_server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    yield settings
    running_server.stop()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@pytest.fixture
def bucket(server, request, monkeypatch, tmp_path):
    import s3fs

    monkeypatch.setenv("US43D_CACHE", str(tmp_path / "cache"))
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem()
    name = hashlib.sha256(request.node.name.encode()).hexdigest()[:20]
    fs.mkdir(name)
    return fs, name


def objects(fs, root: str) -> dict[str, bytes]:
    fs.invalidate_cache()
    return {path[len(root) + 1 :]: fs.cat_file(path) for path in fs.find(root)} if fs.exists(root) else {}


@pytest.mark.parametrize("format", [pytest.param("coco", marks=pytest.mark.slow), "webdataset"])
def test_an_export_to_s3_is_the_local_one(format, planted, bucket, tmp_path) -> None:
    fs, name = bucket
    local = tmp_path / "local"
    export.write(format, planted.corpus, local, Options())
    report = export.write(format, planted.corpus, f"s3://{name}/out", Options(), jobs=2)
    found = objects(fs, f"{name}/out")
    files = {p.relative_to(local).as_posix() for p in local.rglob("*") if p.is_file()}
    files = {file for file in files if format != "coco" or not file.startswith("data/")}
    assert set(found) == files
    differing = {file for file in files if found[file] != (local / file).read_bytes()}
    assert differing <= {"README.md", "export.json", "checksums.txt"}, "only what states the place differs"
    assert not fs.exists(f"{name}/.out"), "no staging folder is left"
    assert {path.split("/")[1] for path in fs.find(name)} == {"out"}
    assert check(report.out) == []
    assert export.write(format, planted.corpus, f"s3://{name}/out", Options()).reused


def test_an_interrupted_export_to_s3_shows_nothing_and_resumes(planted, bucket, monkeypatch) -> None:
    fs, name = bucket
    monkeypatch.setattr(running, "BLOCK", 8)
    record, blocks = running.Block.record, []

    def interrupted(self) -> bytes:
        blocks.append(self.task)
        if len(blocks) == 3:
            raise KeyboardInterrupt
        return record(self)

    monkeypatch.setattr(running.Block, "record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export.write("webdataset", planted.corpus, f"s3://{name}/out", Options())
    assert objects(fs, f"{name}/out") == {}
    export.write("webdataset", planted.corpus, f"s3://{name}/out", Options())
    assert len(set(blocks)) == len(blocks) - 1, "finished blocks are not uploaded again"
    assert check(f"s3://{name}/out") == []
    fs.pipe_file(f"{name}/out/README.md", b"changed")
    fs.rm_file(f"{name}/out/LICENCES.md")
    problems = [(problem.kind, problem.where) for problem in check(f"s3://{name}/out")]
    assert problems == [("missing", "LICENCES.md"), ("changed", "README.md")]


@pytest.mark.slow
def test_large_files_go_up_in_parts_or_not_at_all(bucket, tmp_path, monkeypatch) -> None:
    from us43d.export.storage import staged

    fs, name = bucket
    store = staged(f"s3://{name}/out", "0" * 64)
    content = np.random.default_rng(0).bytes(120 << 20)
    calls = []
    call = type(fs)._call_s3

    async def counted(self, method, *args, **how):
        calls.append(method)
        if method == "upload_part" and "fail" in calls and calls.count("upload_part") > 2:
            raise OSError("the network is gone")
        return await call(self, method, *args, **how)

    monkeypatch.setattr(type(fs), "_call_s3", counted)
    with store.file("large.bin") as path:
        path.write_bytes(content)
    assert calls.count("upload_part") > 1
    assert hashlib.sha256(store.read("large.bin")).digest() == hashlib.sha256(content).digest()
    calls[:] = ["fail"]
    with pytest.raises(StorageError, match="the network is gone"), store.file("second.bin") as path:
        path.write_bytes(content)
    assert store.read("second.bin") is None


def test_a_missing_bucket_is_named(planted, server) -> None:
    with pytest.raises(StorageError, match="nowhere-at-all"):
        export.write("masks", planted.corpus, "s3://nowhere-at-all/out", Options())


@pytest.fixture
def uploaded(planted, bucket) -> str:
    """The home of the corpus, copied to the bucket as any tool would."""
    fs, name = bucket
    for folder in ("corpora", "build"):
        fs.put(f"{planted.home.root / folder}/", f"{name}/home/{folder}/", recursive=True)
    return f"s3://{name}/home/corpora/local"


def test_a_corpus_is_read_from_s3(planted, uploaded, tmp_path) -> None:
    corpus = Corpus.open(uploaded)
    assert corpus.digest == planted.corpus.digest
    for row in range(0, len(corpus), 3):
        assert np.array_equal(corpus.picture(row), planted.corpus.picture(row))
    again = Corpus.open(corpus.path, corpus.home)
    assert again.file(0) == corpus.file(0), "what a loader's process opens is the same"
    out = export.write("masks", again, tmp_path / "out", Options())
    assert sum(out.facts["images"].values()) == len(corpus) - 2


def test_the_cache_is_bounded(planted, uploaded, monkeypatch) -> None:
    monkeypatch.setattr(remote, "_GRACE", 0.0)
    size = sum(planted.corpus.file(row).stat().st_size for row in range(len(planted.corpus)))
    monkeypatch.setenv("US43D_CACHE_GB", str(size / 4 / 1e9))
    corpus = Corpus.open(uploaded)
    cache = Path(os.environ["US43D_CACHE"]) / "images"
    largest = 0
    for row in range(len(corpus)):
        corpus.picture(row)
        largest = max(largest, sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()))
    assert largest < size / 4 * 1.3
    assert np.array_equal(corpus.picture(0), planted.corpus.picture(0)), "what was removed is fetched again"


def test_a_missing_corpus_and_a_missing_image_are_named(planted, uploaded, bucket) -> None:
    fs, name = bucket
    with pytest.raises(BuildError, match=r"corpora/none is missing"):
        Corpus.open(f"s3://{name}/home/corpora/none")
    corpus = Corpus.open(uploaded)
    build = json.loads((corpus.path / "corpus.json").read_text())["sources"][0]["path"]
    for path in fs.find(f"{name}/home/{build}/images"):
        fs.rm_file(path)
    with pytest.raises(BuildError, match="is missing"):
        corpus.picture(0)


def test_images_in_a_bucket_are_compared_with_their_builds(planted, uploaded, bucket, tmp_path) -> None:
    fs, name = bucket
    corpus = Corpus.open(uploaded)
    row = int(corpus.split("train")[0])
    place = f"{name}/home/{planted.corpus.file(row).relative_to(planted.home.root)}"
    content = fs.cat_file(place)
    fs.pipe_file(place, content + b"0")  # still an image
    out, options = tmp_path / "out", Options(sources=(corpus.sources[corpus.images["source"][row]]["name"],))
    with pytest.raises(TrainError, match=f"s3://{place} is not the file that was built") as error:
        export.write("masks", corpus, out, options)
    fs.pipe_file(place, content)
    subprocess.run(error.value.next.partition("   ")[0], shell=True, check=True)
    report = export.write("masks", corpus, out, options)
    assert not [what for what in report.facts["counts"] if "not compared" in what]
    for path in fs.glob(f"{name}/home/build/*/*/manifest.parquet"):
        fs.rm_file(path)
    for path in Path(os.environ["US43D_CACHE"]).rglob("manifest.parquet"):
        path.unlink()
    report = export.write("masks", Corpus.open(uploaded), tmp_path / "two", options)
    counted = report.facts["counts"]["images not compared with their build: its manifest is not beside the corpus"]
    assert counted == sum(report.facts["images"].values())


def test_batches_from_s3_are_those_of_the_local_corpus(planted, uploaded) -> None:
    import torch

    from us43d.train.config import preset
    from us43d.train.data import Draws

    config = preset("tiny")
    local, streamed = Draws(planted.corpus, config), Draws(Corpus.open(uploaded), config)
    for place in range(6):
        for one, other in zip(local.draw(place), streamed.draw(place), strict=True):
            assert torch.equal(one, other)


@pytest.mark.slow
def test_a_run_trains_from_s3_to_its_end(planted, uploaded, server, tmp_path) -> None:
    home = tmp_path / "elsewhere"
    words = [
        "train",
        "--preset",
        "tiny",
        "--corpus",
        uploaded,
        "--steps",
        "2",
        "--run",
        "streamed",
        "--home",
        str(home),
    ]
    environment = {**os.environ, **server}
    done = subprocess.run(
        [sys.executable, "-m", "us43d", *words], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    log = [json.loads(line) for line in (home / "runs" / "streamed" / "log.jsonl").read_text().splitlines()]
    assert planted.corpus.digest in json.dumps(log[0])
    assert (home / "runs" / "streamed" / "weights").is_dir()


def test_view_refuses_a_url(tmp_path) -> None:
    words = ["view", "--corpus", "s3://bucket/home/corpora/local", "--no-browser", "--home", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", "us43d", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "opens corpora of this machine" in done.stderr


@pytest.mark.slow
def test_two_torchrun_processes_stream_the_batches_of_the_local_corpus(planted, uploaded, tmp_path) -> None:
    script = tmp_path / "draws.py"
    script.write_text(
        "import hashlib, os, sys\n"
        "from us43d.harmonize.corpus import Corpus\n"
        "from us43d.train.config import preset\n"
        "from us43d.train.data import Draws\n"
        "draws = Draws(Corpus.open(sys.argv[1]), preset('tiny'))\n"
        "rank = int(os.environ.get('RANK', 0)); world = int(os.environ.get('WORLD_SIZE', 1))\n"
        "for place in range(rank, 8, world):\n"
        "    data = b''.join(t.numpy().tobytes() for t in draws.draw(place))\n"
        "    print(f'draw {place} {hashlib.sha256(data).hexdigest()}', flush=True)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}

    def drawn(*command: str) -> list[str]:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return sorted(re.findall(r"draw \d+ [0-9a-f]{64}", done.stdout))  # two processes may write to one line

    local = drawn(sys.executable, str(script), str(planted.corpus.path))
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29617")
    assert drawn(*torchrun, str(script), uploaded) == local
    assert len(local) == 8
