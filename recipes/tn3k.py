"""TN3K: thyroid nodules; JPEG images with JPEG masks of the same name, trainval and test numbered apart."""

import csv
import datetime
import io
import json
from collections.abc import Iterator

from us43d import masks
from us43d.contract import Citation, Expect, Licence, PaperProfile, RawFile, RawTree, Recipe, Route, Sample, lazy
from us43d.errors import UnreadableFile


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at("tn3k/test-image", "tn3k/trainval-image")
    fold = "tn3k/tn3k-trainval-fold0.json"
    validation = set(_validation(tree, fold)) if tree.has(fold) else set()
    labels = {part: _labels(tree, part) for part in ("test", "trainval")}
    for key in tree.glob("tn3k/*-image/*.jpg"):
        part, name = key.split("/")[1].removesuffix("-image"), key.rpartition("/")[2]
        number = name.removesuffix(".jpg")
        held_out = number.isdecimal() and int(number) in validation
        label = labels.get(part, {}).get(name)
        yield Sample(
            key=key,
            image=tree.path(key),
            masks={"thyroid_nodule": lazy(masks.binary, tree.path(f"tn3k/{part}-mask/{name}"))},
            split="test" if part == "test" else "val" if held_out else "train" if validation else None,
            tags={"diagnosis": ("benign", "malignant")[int(label)]} if label in {"0", "1"} else {},
        )


def _validation(tree: RawTree, key: str) -> list[int]:
    try:
        return [int(number) for number in json.loads(tree.text(key))["val"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableFile(f"{key} in {tree.root} is no fold file: {error!r}.") from error


def _labels(tree: RawTree, part: str) -> dict[str, str]:
    """The benign/malignant table of a part, which has no header; the GitHub copy lacks it."""
    key = f"tn3k/label4{part}.csv"
    rows = csv.reader(io.StringIO(tree.text(key) if tree.has(key) else ""))
    return {row[0].strip(): row[1].strip() for row in rows if len(row) == 2}


_RAR = "https://raw.githubusercontent.com/haifangong/TRFE-Net-for-thyroid-nodule-segmentation/6e35530fa8292d43ccb1d72aa69adb101d96fd58/picture"


def _rar(name: str, size: int | None = None, md5: str | None = None, sha256: str | None = None) -> RawFile:
    return RawFile(
        name=name, url=f"{_RAR}/{name}", size=size, md5=md5, sha256=sha256, unpack=name.endswith(".rar"), into="tn3k"
    )


RECIPE = Recipe(
    name="TN3K",
    slug="tn3k",
    row="TN3K",
    aliases=("Thyroid Nodule 3 Thousand",),
    title="TN3K: Thyroid Nodule 3 Thousand",
    organ="thyroid",
    application="thyroid nodule segmentation (with benign/malignant image label)",
    media="image2d",
    homepage="https://github.com/haifangong/TRFE-Net-for-thyroid-nodule-segmentation",
    citations=(
        Citation(
            title="Multi-Task Learning For Thyroid Nodule Segmentation With Thyroid Region Prior",
            venue="IEEE International Symposium on Biomedical Imaging (ISBI)",
            year=2021,
            doi="10.1109/ISBI48211.2021.9434087",
            bibtex="""@inproceedings{gong2021multitask,
  title={Multi-Task Learning For Thyroid Nodule Segmentation With Thyroid Region Prior},
  author={Gong, Haifan and Chen, Guanqi and Wang, Ranran and Xie, Xiang and Mao, Mingzhi and Yu, Yizhou and Chen, Fei and Li, Guanbin},
  booktitle={IEEE International Symposium on Biomedical Imaging (ISBI)}, pages={257--261}, year={2021},
  doi={10.1109/ISBI48211.2021.9434087}
}""",
        ),
        Citation(
            title="Thyroid region prior guided attention for ultrasound segmentation of thyroid nodules",
            venue="Computers in Biology and Medicine 155: 106389",
            year=2023,
            doi="10.1016/j.compbiomed.2022.106389",
            bibtex="""@article{gong2023thyroid,
  title={Thyroid region prior guided attention for ultrasound segmentation of thyroid nodules},
  author={Gong, Haifan and Chen, Jiaxin and Chen, Guanqi and Li, Haofeng and Chen, Fei and Li, Guanbin},
  journal={Computers in Biology and Medicine}, volume={155}, pages={106389}, year={2023},
  doi={10.1016/j.compbiomed.2022.106389}
}""",
        ),
        Citation(
            title="Less is More: Adaptive Curriculum Learning for Thyroid Nodule Diagnosis (cite when the benign/malignant labels are used)",
            venue="MICCAI",
            year=2022,
            bibtex="""@inproceedings{gong2022less,
  title={Less is More: Adaptive Curriculum Learning for Thyroid Nodule Diagnosis},
  author={Gong, Haifan and Cheng, Hui and Xie, Yifan and Tan, Shuangyi and Chen, Guanqi and Chen, Fei and Li, Guanbin},
  booktitle={MICCAI}, pages={248--257}, year={2022}
}""",
        ),
    ),
    licence=Licence(
        id="UNSTATED",
        evidence="The repository's MIT licence speaks of the software; no licence for the images is stated anywhere read.",
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    access_note="One archive holds TN3K, TG3K and DDTI; it needs Google Drive's large-file confirmation.",
    routes=(
        Route(
            kind="gdrive",
            record="1reHyY5eTZ5uePXMVMzFOq5j3eFOSp50F",
            url="https://drive.google.com/uc?id=1reHyY5eTZ5uePXMVMzFOq5j3eFOSp50F",
            files=(
                RawFile(
                    name="Thyroid Dataset.zip",
                    sha256="0ba1770076dab01b1f8fd661a227d80982168bc433de61c80fd266427b20cf60",
                ),
            ),
            note="sha256 from torch-em; the archive's own name is not published, the one given here is that of its top folder.",
        ),
        Route(
            kind="github",
            record="haifangong/TRFE-Net-for-thyroid-nodule-segmentation@6e35530fa8292d43ccb1d72aa69adb101d96fd58",
            url="https://github.com/haifangong/TRFE-Net-for-thyroid-nodule-segmentation/tree/main/picture",
            files=(
                _rar("test-image.part1.rar"),
                _rar("test-image.part2.rar"),
                _rar(
                    "test-mask.rar",
                    3065228,
                    "7dd63d972608dd9f41bd42b5fe1cfc11",
                    "4aa78d9775b69cc0df751de74967c5d9c005b00d35a42dcb5a65ea72b85f114d",
                ),
                *(_rar(f"trainval-image.part{n}.rar") for n in range(1, 6)),
                _rar("trainval-image.part6.rar", 3469139),
                _rar("trainval-mask.rar"),
                _rar("tn3k-trainval-fold0.json", 16184, "84bec6110d17396af9c488ce81ace06b"),
                _rar("tn3k-trainval-fold1.json", 16184, "8ca1faff3511819fb838dd751a8385a4"),
                _rar("tn3k-trainval-fold2.json", 16184, "2f9189c3548807f644a65ac0a8bd84fc"),
                _rar("tn3k-trainval-fold3.json", 16184, "78ba15a6b275a82f34784dd2258cafbf"),
                _rar("tn3k-trainval-fold4.json", 16184, "a4c9ae5aa957df0603f50e25db6f250d"),
            ),
            note="TN3K only, without the benign/malignant tables; unar failed on 24 members of test-mask.rar, bsdtar read all.",
        ),
    ),
    labels={"thyroid_nodule": "thyroid_nodule"},
    group_kind="image",
    group_rule="2,421 patients are stated but not identified; every image is its own group, and twins found by the audit are joined.",
    official_split="test-image is the test set; validation is that of fold 0 (numbers divisible by 5).",
    expect=Expect(images=3493, annotated=3493),
    ignore={
        "*tg3k/*": "the same archive's TG3K, a source of its own",
        "*ddti dataset/*": "the same archive's DDTI, a source of its own",
        "*tn3k-trainval.json": "the union of the folds",
        "*tn3k-trainval-fold[1-4].json": "the other folds",
    },
    paper=PaperProfile(
        note="Trainval and test are merged and split at random; masks are cut at 150 instead of 128, which no pixel of the measured test masks tells apart (values lie in 0–18 and 239–255)."
    ),
    known_issues=(
        "A copy on Hugging Face (us-segmentator/us-segmentation-dataset) is a third party's, its equality not checked; it is not used.",
        "3,493 images of 2,421 patients without patient ids: some patients have several images, and the official folds ignore this.",
        "690 components in the 614 test masks; images with several nodules are normal.",
        "Overlap with TNSCUI or DDTI was not checked.",
    ),
    sources=(
        "github haifangong/TRFE-Net-for-thyroid-nodule-segmentation @ 6e35530f: README, fold files and test masks (measured)",
        "github CAMMA-public/UltraSam datasets/datasets/TN3K.py",
        "github zhuqh19/UltraSAM3 datasets/Thyroid/Scripts/convert_tn3k_to_coco.py",
        "github openmedlab/Awesome-Medical-Dataset resources/TN3K.md",
        "torch-em tg3k module (sha256)",
    ),
    confidence="High: test masks and fold files measured, tree and counts read. Inferred: train masks behave like the test masks. Unknown: archive size, licence of the images.",
    read=read,
)
