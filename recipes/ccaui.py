"""CCAUI: the common carotid artery in frames of cine loops; an acquisition's time stands in its files' names."""

import datetime
from collections.abc import Iterator

from us43d import masks
from us43d.contract import Citation, Expect, Licence, PaperProfile, RawFile, RawTree, Recipe, Route, Sample, lazy
from us43d.errors import UnreadableFile

_IMAGES, _MASKS = "US images", "Expert mask images"
_VISIT = datetime.timedelta(minutes=5)


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at(_IMAGES)
    keys = tree.glob(f"{_IMAGES}/*.png")
    visits = _visits({_acquisition(key) for key in keys})
    for key in keys:
        name = key.rpartition("/")[2]
        yield Sample(
            key=key,
            image=tree.path(key),
            masks={"carotid_artery": lazy(masks.binary, tree.path(f"{_MASKS}/{name}"))},
            group=visits[_acquisition(key)],
            tags={"acquisition": _acquisition(key)},
        )


def _acquisition(key: str) -> str:
    return key.rpartition("/")[2].partition("_slice_")[0]


def _visits(acquisitions: set[str]) -> dict[str, str]:
    """Acquisition → the first one of its visit: those less than five minutes after another count as one visit."""
    visits: dict[str, str] = {}
    last, first = datetime.datetime.min, ""
    for acquisition in sorted(acquisitions):
        try:
            time = datetime.datetime.strptime(acquisition[:14], "%Y%m%d%H%M%S")
        except ValueError as error:
            raise UnreadableFile(f"{acquisition}_slice_*.png: the name does not begin with a time.") from error
        if time - last >= _VISIT:
            first = acquisition
        visits[acquisition], last = first, time
    return visits


RECIPE = Recipe(
    name="CCAUI",
    slug="ccaui",
    row="CCAUI",
    aliases=("Common Carotid Artery Ultrasound Images",),
    title="Common Carotid Artery Ultrasound Images",
    organ="carotid artery",
    application="common carotid artery segmentation",
    media="image2d",
    homepage="https://data.mendeley.com/datasets/d4xt63mgjm/1",
    doi="10.17632/d4xt63mgjm.1",
    citations=(
        Citation(
            title="Common Carotid Artery Ultrasound Images (data record)",
            venue="Mendeley Data, V1",
            year=2022,
            doi="10.17632/d4xt63mgjm.1",
            bibtex="""@misc{momot2022common,
  title={Common Carotid Artery Ultrasound Images}, author={Momot, Agata}, year={2022},
  publisher={Mendeley Data}, version={V1}, doi={10.17632/d4xt63mgjm.1}
}""",
        ),
    ),
    licence=Licence(
        id="CC-BY-4.0", evidence="Stated by three independent users of the record; the record itself was not read."
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    access_note="Mendeley may refuse scripts; the addresses follow its usual pattern and were not seen in use for this record.",
    routes=(
        Route(
            kind="mendeley",
            record="d4xt63mgjm/1",
            url="https://data.mendeley.com/datasets/d4xt63mgjm/1",
            files=(
                RawFile(
                    name="d4xt63mgjm-1.zip",
                    url="https://prod-dcd-datasets-cache-zipfiles.s3.eu-west-1.amazonaws.com/d4xt63mgjm-1.zip",
                    generated=True,
                ),
            ),
        ),
    ),
    labels={"carotid_artery": "common_carotid_artery"},
    group_kind="study",
    group_rule="Acquisitions less than five minutes apart count as one visit, because left and right of one person follow each other; the subject of an acquisition is not published, so this is an estimate.",
    expect=Expect(images=1100, annotated=1100, masks=1100),
    nested=("*.zip", "*/*.zip"),
    paper=PaperProfile(
        note="Empty masks are skipped (none is known); the masks are 0/255, so the converter's integer division agrees with the cut at half range.",
        skip_empty=True,
    ),
    known_issues=(
        "The record says 11 subjects in one sentence and 2 + 8 in another; 100 images per subject.",
        "Frames come from cine loops, so neighbours are near-duplicates.",
        "Only the artery is drawn; the jugular vein is often visible but is background.",
        "Some descriptions count 2,200 images: images plus masks.",
    ),
    sources=(
        "github CAMMA-public/UltraSam datasets/datasets/Common_Carotid_Artery_Ultrasound_Images.py",
        "github zhuqh19/UltraSAM3 datasets/Carotid_artery/Scripts/convert_ccaui_to_coco.py",
        "github sarah-antillia/Tensorflow-Image-Segmentation-Common-Carotid-Artery-UltraSound-Images (20 sample pairs opened: sizes, modes, mask values)",
        "github tbrokowski/ultatron data/adapters/common_carotid.py",
    ),
    confidence="High for reading, medium for download and subjects. Not read: the record's page, sizes, digests, subject of each acquisition.",
    read=read,
)
