"""DICOM: an image and its DICOM SEG, segments coded from the taxonomy, written by highdicom.

    <split>/<name>/image.dcm, <split>/<name>/seg.dcm

A volume with known voxel size and complete slices is one multi-frame image with one multi-frame SEG. Any other image,
frames of videos too, is a single-frame image with a SEG of its own: highdicom writes a multi-frame SEG of images with a
position in space alone. A group is a study (and its patient), a video or volume is a series, and its SEGs are another
one; instances have the number of their frame. UIDs are digests of the corpus's ids.
"""

import hashlib
from collections import Counter
from io import BufferedRandom
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from us43d import __version__
from us43d.export import frames
from us43d.export.run import Block, Finish, Format, rgb
from us43d.export.selection import Category, Item, Selection, Shape
from us43d.pictures.levels import eight_bits, finite_range

__all__ = ["DicomSeg", "uid"]

#: Date and time of everything: when an export is made changes no byte of it.
_DATE, _TIME = "19700101", "000000"
#: Coding scheme of structures for which the taxonomy has no SNOMED CT code.
_PRIVATE = "99US43D"
_LESIONS = ("lesion", "nodule", "tumour")


class DicomSeg(Format):
    fidelity = (
        "The mask of every annotation comes back equal (IoU 1); pixels of the image are equal to those us43d reads, 8 "
        "bits. In a single image every annotation is a segment. In a volume the n-th annotations of a structure in "
        "all slices share a segment, which does not state that they are one object; position and direction in space "
        "are not kept. Structures without a SNOMED CT code in the taxonomy have a code of the private scheme "
        f"{_PRIVATE} (counted). Images without annotation have no SEG."
    )

    def cuts(self, selection: Selection, split: str) -> list[int]:
        return frames.cuts(selection, split)

    def block(self, block: Block) -> None:
        for name, items in frames.of_file(block):
            if len(items) > 1 and not frames.fault(items):
                self._write(block, items, name)
                block.count("volumes")
                continue
            for item in items:
                self._write(block, [item], item.name)

    def _write(self, block: Block, items: list[Item], name: str) -> None:
        folder = f"{items[0].split}/{name}"
        with block.file(f"{folder}/image.dcm") as path, TemporaryFile(dir=path.parent) as pixels:
            deep = sum(item.deep for item in items)
            block.count("16-bit images reduced to 8 bits by their range", deep)
            levels = finite_range(item.stored() for item in items) if deep else None  # one for all slices of a volume
            image = _image(items, colour=_pixels(items, pixels, levels))
            _save(image, pixels, path)
        for item in items:
            block.row(item, f"{folder}/image.dcm")
        if any(item.shapes for item in items):
            with block.file(f"{folder}/seg.dcm") as path, TemporaryFile(dir=path.parent) as pixels:
                _save(_segmentation(items, image, block, pixels), pixels, path)

    def usage(self, finish: Finish) -> str:
        split = next(iter(finish.selection.rows))
        return (
            "import glob, highdicom\n"
            f"for path in sorted(glob.glob({finish.literal(split, '*', 'seg.dcm')})):\n"
            "    seg = highdicom.seg.segread(path); masks = seg.pixel_array   # (frames, h, w)\n"
        )


def uid(*parts: object) -> str:
    """Return a UID under 2.25 (a UUID as a number) from a digest of the parts."""
    digest = hashlib.sha256("\0".join(str(value) for value in ("us43d", *parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _save(dataset: Any, pixels: BufferedRandom, path: Path) -> None:
    """Write a dataset with its pixels, which are copied from their file in pieces."""
    if pixels.tell() % 2:
        pixels.write(b"\0")
    pixels.seek(0)
    dataset.PixelData = pixels
    dataset.save_as(path, enforce_file_format=True)
    del dataset.PixelData


def _pixels(items: list[Item], file: BufferedRandom, levels: tuple[float, float] | None) -> bool:
    """Write the pixels of images, one at a time: in colour if any of them is. Return whether they are."""
    colour, n = False, 0
    while n < len(items):
        plane = eight_bits(items[n].stored(), levels)
        if plane.ndim == 3 and not colour:
            colour = True
            if n:  # the grey ones before it are written again
                n = file.seek(0)
                continue
        file.write((rgb(plane) if colour else plane).tobytes())
        n += 1
    return colour


def _image(items: list[Item], *, colour: bool) -> Any:
    """Return an image as Ultrasound Image Storage, or the slices of a volume as a multi-frame secondary capture.

    Its pixels are not in it.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import (
        ExplicitVRLittleEndian,
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        MultiFrameTrueColorSecondaryCaptureImageStorage,
        UltrasoundImageStorage,
    )

    item = items[0]
    patient = f"{item.source['slug']}/{item.group}"
    place = frames.frame_of(item.key)
    image: Any = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = UltrasoundImageStorage, uid("image", item.id)
    image.SpecificCharacterSet = "ISO_IR 192"
    image.PatientID = f"us43d-{hashlib.sha256(patient.encode()).hexdigest()[:16]}"
    image.PatientName = f"{image.PatientID}^"
    image.PatientBirthDate = image.PatientSex = ""
    image.PatientIdentityRemoved, image.DeidentificationMethod = "YES", "published research data"
    image.StudyInstanceUID, image.StudyID, image.AccessionNumber = uid("study", patient), "", ""
    image.SeriesInstanceUID = uid("series", item.source["slug"], place[0] if place else item.key)
    image.SeriesNumber, image.InstanceNumber = 1, place[1] + 1 if place else 1
    image.StudyDate = image.SeriesDate = image.ContentDate = _DATE
    image.StudyTime = image.SeriesTime = image.ContentTime = _TIME
    image.Modality, image.Manufacturer, image.ManufacturerModelName = "US", "us43d", __version__
    image.ReferringPhysicianName = ""
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.ImageComments = f"{item.source['name']}: {item.key}"
    image.Rows, image.Columns = item.height, item.width
    image.SamplesPerPixel = 3 if colour else 1
    image.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        image.PlanarConfiguration = 0
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit, image.PixelRepresentation = 7, 0
    if len(items) > 1:
        image.SOPClassUID = (
            MultiFrameTrueColorSecondaryCaptureImageStorage
            if colour
            else MultiFrameGrayscaleByteSecondaryCaptureImageStorage
        )
        _place(image, items)
    elif item.spacing:
        image.SequenceOfUltrasoundRegions = [_region(item)]
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return image


def _place(image: Any, items: list[Item]) -> None:
    """Note the size of the voxels of a volume: a frame for each slice, the first one at the origin."""
    from pydicom.dataset import Dataset
    from pydicom.tag import Tag

    item = items[0]
    assert item.spacing is not None
    assert item.slice_mm is not None
    x, y, z = (f"{millimetres:.10g}" for millimetres in (*item.spacing, item.slice_mm))
    image.ConversionType, image.BurnedInAnnotation = "SYN", "NO"
    image.FrameOfReferenceUID, image.PositionReferenceIndicator = uid("space", image.SeriesInstanceUID), ""
    image.NumberOfFrames, image.FrameIncrementPointer = len(items), Tag("PerFrameFunctionalGroupsSequence")
    if image.SamplesPerPixel == 1:
        image.PresentationLUTShape, image.RescaleIntercept, image.RescaleSlope = "IDENTITY", 0, 1
        image.RescaleType = "US"
    measures: Any = Dataset()
    measures.PixelSpacing, measures.SliceThickness, measures.SpacingBetweenSlices = [y, x], z, z
    orientation: Any = Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared: Any = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = []
    for n in range(len(items)):
        position: Any = Dataset()
        position.ImagePositionPatient = [0, 0, f"{n * item.slice_mm:.10g}"]
        frame: Any = Dataset()
        frame.PlanePositionSequence = [position]
        image.PerFrameFunctionalGroupsSequence.append(frame)


def _region(item: Item) -> Any:
    """Return the whole image as a region with its physical size in cm."""
    from pydicom.dataset import Dataset

    region: Any = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = item.width - 1, item.height - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    assert item.spacing is not None
    region.PhysicalDeltaX, region.PhysicalDeltaY = (millimetres / 10 for millimetres in item.spacing)
    return region


def _segmentation(items: list[Item], image: Any, block: Block, pixels: BufferedRandom) -> Any:
    """Return the SEG of an image or volume. In a volume, the n-th annotations of a structure share a segment.

    Args:
        items: The image, or the slices.
        image: What `_image` returned for them.
        block: Where segments with a private code are counted.
        pixels: Where the pixels of the SEG are written to, one frame at a time.
    """
    import highdicom as hd

    item = items[0]
    of_segment: dict[tuple[int, int], list[tuple[int, Shape]]] = {}
    for plane, slice_ in enumerate(items):
        number = Counter[int]()
        for n, shape in enumerate(slice_.shapes):
            # Segments of a single image are in the order of its annotations.
            key = (0, n) if len(items) == 1 else (shape.category, number[shape.category])
            number[shape.category] += 1
            of_segment.setdefault(key, []).append((plane, shape))
    segments = []
    tracked = len(items) == 1
    for n, key in enumerate(sorted(of_segment), start=1):
        first = of_segment[key][0][1]
        category = item.selection.categories[first.category]
        kind, what = _coded(category)
        if what.scheme_designator == _PRIVATE:
            block.count(f"segments with a code of {_PRIVATE}")
        segments.append(
            hd.seg.SegmentDescription(
                segment_number=n, segment_label=f"{category.name} {n}"[:64], segmented_property_category=kind,
                segmented_property_type=what, algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
                tracking_uid=uid("annotation", first.id) if tracked else None,
                tracking_id=str(first.id) if tracked else None,
            )
        )  # fmt: skip
    # highdicom takes the masks of a volume as one array, which is several times the volume where segments overlap. It
    # gets one zero for all pixels, and describes every frame of every segment; the frames are written after it.
    nothing = np.broadcast_to(np.uint8(0), (len(items), item.height, item.width))
    seg: Any = hd.seg.Segmentation(
        [image], nothing, hd.seg.SegmentationTypeValues.BINARY, segments,
        series_instance_uid=uid("segments", image.SeriesInstanceUID), series_number=100,
        sop_instance_uid=uid("seg", item.id), instance_number=image.InstanceNumber, manufacturer="us43d",
        manufacturer_model_name="us43d", software_versions=__version__, device_serial_number="0",
        omit_empty_frames=False,
    )  # fmt: skip
    seg.ContentDate = seg.InstanceCreationDate = seg.SeriesDate = _DATE
    seg.ContentTime = seg.InstanceCreationTime = seg.SeriesTime = _TIME
    for entry in seg.ContributingEquipmentSequence:  # highdicom notes itself, with the time
        entry.ContributionDateTime = _DATE + _TIME
    organization = uid("dimensions", item.id)
    for entry in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        entry.DimensionOrganizationUID = organization
    seg.SegmentsOverlap = "YES" if any(_overlap(slice_) for slice_ in items) else "NO"
    _write_frames(items, [dict(of_segment[key]) for key in sorted(of_segment)], seg, pixels)
    return seg


def _overlap(item: Item) -> bool:
    """Return whether a pixel of an image has two annotations."""
    covered = np.zeros((item.height, item.width), bool)
    for shape in item.shapes:
        mask = item.mask(shape)
        if (covered & mask).any():
            return True
        covered |= mask
    return False


def _write_frames(items: list[Item], segments: list[dict[int, Shape]], seg: Any, file: BufferedRandom) -> None:
    """Write the frames of a SEG in the order of its functional groups: a bit for each pixel, no gap between frames.

    segments: For each segment, index of the slice → annotation.
    """
    shared = seg.SharedFunctionalGroupsSequence[0]
    nothing = np.zeros((items[0].height, items[0].width), bool)
    rest = nothing.ravel()[:0]
    for frame in seg.PerFrameFunctionalGroupsSequence:
        named = frame if "SegmentIdentificationSequence" in frame else shared  # shared where there is one segment
        number = named.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        plane = frame.DerivationImageSequence[0].SourceImageSequence[0].get("ReferencedFrameNumber", 1) - 1
        shape = segments[number - 1].get(plane)
        mask = nothing if shape is None else items[plane].mask(shape)
        bits = np.concatenate([rest, mask.ravel()])
        whole = len(bits) // 8 * 8
        file.write(np.packbits(bits[:whole], bitorder="little").tobytes())
        rest = bits[whole:]
    file.write(np.packbits(rest, bitorder="little").tobytes())


def _coded(category: Category) -> tuple[Any, Any]:
    """Return (property category, property type) of a structure."""
    import highdicom as hd

    from us43d.harmonize.taxonomy import taxonomy

    name = category.name
    if any(word in name for word in _LESIONS):
        kind = hd.sr.CodedConcept("49755003", "SCT", "Morphologically Altered Structure")
    elif category.organ == "device":
        kind = hd.sr.CodedConcept("260787004", "SCT", "Physical object")
    else:
        kind = hd.sr.CodedConcept("123037004", "SCT", "Anatomical Structure")
    entries = {entry.id: entry for entry in taxonomy().categories}
    codes = entries[category.id].codes if category.id in entries and entries[category.id].name == name else ()
    for code in codes:
        if code["system"] == "SNOMED CT":
            return kind, hd.sr.CodedConcept(code["code"], "SCT", name.replace("_", " ")[:64])
    return kind, hd.sr.CodedConcept(f"US43D-{category.id}", _PRIVATE, name.replace("_", " ")[:64])
