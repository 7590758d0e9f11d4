"""Brachial plexus: videos of three machines, a mask of the nerves per frame, in six videos one of the needle, too."""

import datetime
import re
from collections.abc import Iterator
from pathlib import Path

from us43d import masks
from us43d.contract import (
    Citation,
    Expect,
    Lazy,
    Licence,
    PaperProfile,
    RawFile,
    RawTree,
    Recipe,
    Route,
    Sample,
    lazy,
)  # fmt: skip
from us43d.errors import MissingRawFile
from us43d.rawtree import Row

#: Folder of a mask → its label. The published conversion knows the second folder, too.
LABELS = {"ac_masks": "nerve_plexus", "p_021_09_masks": "nerve_plexus", "needle_masks": "needle"}
#: Devices with a table; eSaote's, if there is one, is of a form nobody has described.
DESCRIBED = ("Butterfly", "Sonosite")
MASK = re.compile(rf"data/([^/]+)/(?:.*/)?({'|'.join(LABELS)})/(?:.*/)?([^/]+)_(\d+)\.jpg", re.IGNORECASE)


def read(raw: RawTree, threshold: int = 127) -> Iterator[Sample]:
    """threshold: pixels of the JPEG masks above it are inside."""
    tree = raw.at("data")
    drawn: dict[tuple[str, str], dict[int, dict[str, list[Lazy]]]] = {}
    for key in tree:
        if match := MASK.fullmatch(key):
            device, folder, video, frame = match.groups()
            by_label = drawn.setdefault((device, video), {}).setdefault(int(frame), {})
            mask = lazy(masks.above, lazy(masks.grey, tree.path(key)), threshold)
            by_label.setdefault(LABELS[folder.lower()], []).append(mask)
    tables = {device: table(tree, f"data/{device}/subjects_data.csv") for device in DESCRIBED}
    for key in tree.glob("data/*/videos/*.mp4"):
        device, video = key.split("/")[1], Path(key).stem
        frames, path = drawn.get((device, video), {}), tree.path(key)
        listed = tables.get(device, {})
        if device in tables and video not in listed:
            raise MissingRawFile(f"data/{device}/subjects_data.csv in {raw.root} has no row with vid_name {video!r}.")
        row = listed.get(video)
        length = max(masks.video_length(path), row.whole("frame_cnt") if row else 0, *(frame + 1 for frame in frames))
        for frame in range(length):
            yield Sample(
                key=f"{key}#{frame:04}",
                image=lazy(masks.video_frame, path, frame),
                masks=frames.get(frame, {}),
                group=f"{device}/{video}",
                frame=frame,
                tags={"device": device, "nerve": row["nerve"]} if row else {"device": device},
                drop=None if frame in frames else "no mask is published for this frame",
            )


def table(tree: RawTree, key: str) -> dict[str, Row]:
    """Video → its row; empty for a cut that has no video of the device."""
    if not tree.glob(f"{key.rpartition('/')[0]}/videos/*"):
        return {}
    return {row["vid_name"].removesuffix(".mp4"): row for row in tree.rows(key, ("vid_name", "nerve", "frame_cnt"))}


def read_at_100(raw: RawTree) -> Iterator[Sample]:
    return read(raw, 99)


RECIPE = Recipe(
    name="brachial-plexus",
    slug="brachial_plexus",
    row="brachial plexus",
    aliases=("Regional-US", "Regional-US brachial plexus"),
    title="Regional-US brachial plexus ultrasound videos (nerve plexus masks and needle annotations, three machines)",
    organ="nerve",
    application="segmentation of the (supraclavicular) brachial plexus and of the needle in ultrasound videos",
    media="video",
    homepage="https://github.com/Regional-US/brachial_plexus",
    citations=(
        Citation(
            title="Nerve Block Target Localization and Needle Guidance for Autonomous Robotic Ultrasound Guided Regional Anesthesia",
            venue="IROS 2024 (arXiv 2308.03717)",
            year=2024,
            bibtex="""@inproceedings{tyagi2024nerve,
  title={Nerve Block Target Localization and Needle Guidance for Autonomous Robotic Ultrasound Guided Regional Anesthesia},
  author={Tyagi, Abhishek and Tyagi, Abhay and Kaur, Manpreet and others},
  booktitle={IEEE/RSJ International Conference on Intelligent Robots and Systems (IROS)},
  year={2024},
  note={arXiv:2308.03717}
}""",
        ),
    ),
    licence=Licence(
        id="CUSTOM",
        name="Non-commercial data use agreement of Regional-US (a statement, without a text)",
        url="https://github.com/Regional-US/brachial_plexus",
        evidence="README: the deidentified videos are shared under a non-commercial data use agreement. Neither its text nor a licence file was seen.",
        commercial=False,
    ),
    access="open",
    access_checked=datetime.date(2026, 11, 1),
    routes=(
        Route(
            kind="github",
            record="Regional-US/brachial_plexus@ac4bf778db01cc81338773485e59a8ac254f665c",
            url="https://github.com/Regional-US/brachial_plexus",
            files=(
                RawFile(
                    name="brachial_plexus-ac4bf778db01cc81338773485e59a8ac254f665c.zip",
                    url="https://codeload.github.com/Regional-US/brachial_plexus/zip/ac4bf778db01cc81338773485e59a8ac254f665c",
                    size=652244758,
                    sha256="093cab36f70e0ee9be0942c0b8d0b3558ff688852a8cb1f88159f429ea6feea6",
                    generated=True,
                ),
            ),
            note="The commit that has the 227 videos the README describes; size and digest are as another project recorded them, and GitHub does not promise them. An older README (163 videos) is in the history.",
        ),
    ),
    labels={"nerve_plexus": "brachial_plexus", "needle": "needle"},
    group_kind="video",
    group_rule="The video; how many videos there are of a patient is not published.",
    expect=Expect(images=40788, groups=227, tags={"device=Butterfly": 3088, "device=Sonosite": 2186}),
    ignore={
        "*/bb_annotations/*": "the experts' boxes from which the nerves' contours were started",
        "*/needle_coordinates/*": "the end points of the lines in needle_masks",
        "*esaote/*.csv": "data of the patients; its columns were not seen",
        "*esaote/*.xlsx": "data of the patients; its columns were not seen",
        "*readme.md": "text",
        "*manuscript*.pdf": "an article that the history has",
        "*other/*.gif": "pictures of the README",
        "*.git/*": "history of a clone",
    },
    paper=PaperProfile(
        note="JPEG masks are cut at 100. Its needle masks are paired by their place in the folder instead of the frame number, so that they lie on wrong frames after the first gap; that is not repeated.",
        read=read_at_100,
    ),
    known_issues=(
        "Needle masks (lines of 4 pixels) exist for annotated frames of six Sonosite videos only (s071 s117 s123 s311 s654 s683), with gaps; a frame without one may show a needle.",
        "The nerves' masks come from active contours that were started in boxes and chosen by anaesthetists.",
        "Masks are JPEG files and are cut at half range.",
        "About 41,000 frames of 227 videos look much alike: split by video.",
        "Columns of the table of eSaote were not seen; it is not read. The published conversion names a folder P_021_09_masks, which is read if it exists.",
        "Not compared with US nerve Segmentation and UBPD, which come from other hospitals.",
    ),
    sources=(
        "github Regional-US/brachial_plexus at ac4bf778 and 0dbaf463: README, tables of Butterfly and Sonosite, needle readme, needle_coordinates/s071.txt, file index",
        "github CAMMA-public/UltraSam datasets/datasets/brachial_plexus.py",
        "public code (address, size, sha256; layout, frame size; 40,788 frames)",
    ),
    confidence="High for the layout of Butterfly and Sonosite, whose tables sum to 3,088 and 2,186 frames. Inferred: 197 eSaote videos (227 - 30). From another project: 40,788 frames. Medium for the licence. Unknown: eSaote's table, videos per patient.",
    read=read,
)
