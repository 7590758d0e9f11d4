"""DICOM: one ultrasound image and one DICOM SEG per image, segments coded from the taxonomy, written by highdicom.

    <split>/<name>/image.dcm, <split>/<name>/seg.dcm

A group is a study (and its patient), a video or volume is a series. UIDs are digests of the corpus's ids.
"""

import hashlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from us43d import __version__
from us43d.export.run import Block, Finish, Format, Report, run
from us43d.export.sam2 import frame_of
from us43d.export.selection import Category, Item, Options
from us43d.harmonize.corpus import Corpus

__all__ = ["DicomSeg", "uid", "write"]

#: Date and time of everything: when an export is made changes no byte of it.
_DATE, _TIME = "19700101", "000000"
#: Coding scheme of structures for which the taxonomy has no SNOMED CT code.
_PRIVATE = "99US43D"
_LESIONS = ("lesion", "nodule", "tumour")


def write(corpus: Corpus, out: str | Path, options: Options, **how: Any) -> Report:
    """Export to DICOM. how: jobs, progress, as `run` takes them."""
    return run(DicomSeg(), corpus, out, options, **how)


class DicomSeg(Format):
    name: ClassVar[str] = "dicom-seg"
    fidelity: ClassVar[str] = (
        "Every annotation is a segment (IoU 1); pixels of the image are equal to those us43d reads, 8 bits. Structures "
        f"without a SNOMED CT code in the taxonomy have a code of the private scheme {_PRIVATE} (counted). Images "
        "without annotation have no SEG."
    )

    def block(self, block: Block) -> None:
        for item in block.items():
            image = _image(item)
            folder = f"{item.split}/{item.name}"
            with block.file(f"{folder}/image.dcm") as path:
                image.save_as(path, enforce_file_format=True)
            block.row(item, f"{folder}/image.dcm")
            if item.shapes:
                with block.file(f"{folder}/seg.dcm") as path:
                    _segmentation(item, image, block).save_as(path, enforce_file_format=True)

    def usage(self, finish: Finish) -> str:
        split = next(iter(finish.selection.rows))
        return (
            "import glob, highdicom\n"
            f"for path in sorted(glob.glob('{finish.out}/{split}/*/seg.dcm')):\n"
            "    seg = highdicom.seg.segread(path); masks = seg.pixel_array   # (segments, h, w)\n"
        )


def uid(*parts: object) -> str:
    """Return a UID under 2.25 (a UUID as a number) from a digest of the parts."""
    digest = hashlib.sha256("\0".join(str(value) for value in ("us43d", *parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _image(item: Item) -> Any:
    """Return the image as Ultrasound Image Storage."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage

    pixels = np.ascontiguousarray(item.picture())
    patient = f"{item.source['slug']}/{item.group}"
    place = frame_of(item.key)
    image: Any = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = UltrasoundImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = uid("image", item.id)
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
    image.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    image.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        image.PlanarConfiguration = 0
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit, image.PixelRepresentation = 7, 0
    if item.spacing:
        image.SequenceOfUltrasoundRegions = [_region(item)]
    data = pixels.tobytes()
    image.PixelData = data + b"\0" * (len(data) % 2)
    return image


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


def _segmentation(item: Item, image: Any, block: Block) -> Any:
    import highdicom as hd

    categories = item.selection.categories
    segments = []
    for n, shape in enumerate(item.shapes, start=1):
        category = categories[shape.category]
        kind, what = _coded(category)
        if what.scheme_designator == _PRIVATE:
            block.count(f"segments with a code of {_PRIVATE}")
        segments.append(
            hd.seg.SegmentDescription(
                segment_number=n, segment_label=f"{category.name} {n}"[:64], segmented_property_category=kind,
                segmented_property_type=what, algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
                tracking_uid=uid("annotation", shape.id), tracking_id=str(shape.id),
            )
        )  # fmt: skip
    masks = np.stack([item.mask(shape) for shape in item.shapes], axis=-1)[None].astype(np.uint8)
    seg: Any = hd.seg.Segmentation(
        [image], masks, hd.seg.SegmentationTypeValues.BINARY, segments, series_instance_uid=uid("segments", item.id),
        series_number=100, sop_instance_uid=uid("seg", item.id), instance_number=1, manufacturer="us43d",
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
    return seg


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
