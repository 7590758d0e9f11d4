"""`us43d.load` of builds and corpora, and what its samples become."""

import numpy as np
import pytest

import us43d
from us43d.errors import BuildError, UnknownName, UsageError
from us43d.loading import LoadedSample, Samples


def test_a_corpus_and_a_build_load_alike(planted) -> None:
    build = {sample.meta["id"]: sample for sample in us43d.load("camus", home=planted.home.root)}
    corpus = {
        s.meta["id"]: s for s in us43d.load("local", home=planted.home.root) if s.meta["us43d"]["source"] == "CAMUS"
    }
    assert build.keys() == corpus.keys()
    for number, one in build.items():
        other = corpus[number]
        assert one.path == other.path
        assert one.meta["us43d"]["group"] == other.meta["us43d"]["group"]
        assert one.meta["us43d"]["split"] == other.meta["us43d"]["split"]
        assert (
            one.meta["us43d"]["licence"] == other.meta["us43d"]["licence"] == planted.corpus.sources[1]["licence"]["id"]
        )
        assert one.masks.keys() == other.masks.keys()
        for name, masks in one.masks.items():
            assert all(np.array_equal(a, b) for a, b in zip(masks, other.masks[name], strict=True))


def test_excluded_images_are_in_no_split_of_a_corpus(planted) -> None:
    keys = {
        s.meta["us43d"]["key"]
        for part in ("train", "val", "test")
        for s in us43d.load("local", part, home=planted.home.root)
    }
    assert not keys & {planted.exact, planted.near}
    excluded = us43d.load("local", "excluded", home=planted.home.root)
    assert {sample.meta["us43d"]["key"] for sample in excluded} == {planted.exact, planted.near}
    assert len(excluded[0:2]) == 2


def test_to_pandas(planted) -> None:
    samples = us43d.load("local", home=planted.home.root)
    table = samples.to_pandas()
    assert table["annotation"].notna().sum() == len(planted.corpus.annotations)
    assert table["image"].nunique() == len(planted.corpus)
    assert set(table.loc[table["source"] == "STU-Hospital", "structure"]) == {"breast_lesion"}
    row = table[table["annotation"].notna()].iloc[0]
    sample = next(sample for sample in samples if sample.meta["id"] == row["image"])
    assert sample.masks[row["structure"]][0].shape == (row["height"], row["width"])


def test_to_torch(planted) -> None:
    import torch

    samples = us43d.load("local", "train", home=planted.home.root)
    data = samples.to_torch()
    assert len(data) == len(samples)
    for n in range(0, len(data), 7):
        item, sample = data[n], samples[n]
        shown = sample.image if sample.image.ndim == 3 else sample.image[..., None]
        assert np.array_equal(item["image"].permute(1, 2, 0).numpy(), shown)
        assert item["masks"].shape == (len(sample.annotations), *sample.image.shape[:2])
        assert [sample.names[int(label)] for label in item["labels"]] == [
            sample.names[a["category_id"]] for a in sample.annotations
        ]
        for mask, box in zip(item["masks"], item["boxes"], strict=True):
            x0, y0, x1, y1 = box.int().tolist()
            assert mask[y0:y1, x0:x1].sum() == mask.sum() > 0
    deep = LoadedSample(samples[0].path, samples[0].meta, (), samples[0].names)
    deep.__dict__["image"] = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    shown = Samples([deep]).to_torch()[0]["image"]
    assert (int(shown.min()), int(shown.max())) == (0, 255), "as training reads it: a scale of 12 bits is not black"
    loader = torch.utils.data.DataLoader(data, batch_size=2, collate_fn=list)
    assert sum(len(batch) for batch in loader) == len(samples)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_to_hf(planted, tmp_path, monkeypatch) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed: pip install 'us43d[export]'")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    samples = us43d.load("stu_hospital", home=planted.home.root)
    data = samples.to_hf()
    assert len(data) == len(samples)
    names = data.features["structures"].feature.names
    for row, sample in zip(data, samples, strict=True):
        assert np.array_equal(np.asarray(row["image"]), sample.image)
        masks = [mask for masks in sample.masks.values() for mask in masks]
        assert all(np.array_equal(np.asarray(a) > 0, b) for a, b in zip(row["masks"], masks, strict=True))
        assert {names[n] for n in row["structures"]} == set(sample.masks)
        assert row["licence"] == sample.meta["us43d"]["licence"]
    nothing = us43d.load("camus", "excluded", home=planted.home.root).to_hf()
    assert len(nothing) == 0
    assert nothing.features.keys() == data.features.keys()


def test_unknown_names_and_splits(planted) -> None:
    with pytest.raises(UsageError, match="Unknown split 'tset'"):
        us43d.load("local", "tset", home=planted.home.root)
    with pytest.raises(UnknownName):
        us43d.load("nothing", home=planted.home.root)
    with pytest.raises(BuildError, match="The corpus 'us43d' is not built"):
        us43d.load("us43d", home=planted.home.root)
