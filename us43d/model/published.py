"""Public weights: address, size, digests and licence. Unknown values are None."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

__all__ = ["PUBLISHED", "Published", "identify"]


class Published(NamedTuple):
    """Facts of published weights.

    Attributes:
        name: Name in us43d; the file is weights/<name>.pth.
        title: Name and publication.
        url: Download address.
        page: Web page that describes the weights.
        licence: Id of the licence.
        evidence: Source of address, size and digests.
        reference: BibTeX of the publication.
        size: Bytes; None if unknown.
        md5: Digest in hexadecimal; None if unknown.
        sha256: Digest in hexadecimal; None if unknown.
        natural: Whether training used photographs only (SA-1B, Kirillov et al. 2023; ImageNet), no ultrasound image.
        encoder: Whether it is an image encoder alone: training can start from it, but it segments nothing.
    """

    name: str
    title: str
    url: str
    page: str
    licence: str
    evidence: str
    reference: str
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None
    natural: bool = False
    encoder: bool = False


_META = "https://github.com/facebookresearch/segment-anything"
_SAM = (
    "address from the repository's README, whose file name begins the md5; size and sha256 as in the Git LFS pointers "
    "of copies"
)

_KIRILLOV = """\
@article{kirillov2023,
  title = {Segment Anything},
  author = {Kirillov, Alexander and others},
  journal = {arXiv:2304.02643},
  year = {2023},
}
"""
_MA = """\
@article{ma2024,
  title = {Segment anything in medical images},
  author = {Ma, Jun and others},
  journal = {Nature Communications},
  volume = {15},
  year = {2024},
  doi = {10.1038/s41467-024-44824-z},
}
"""
_MEYER = """\
@article{meyer2026,
  title = {UltraSam: a foundation model for ultrasound using large open-access segmentation datasets},
  author = {Meyer, Adrien and others},
  journal = {International Journal of Computer Assisted Radiology and Surgery},
  volume = {21},
  number = {1},
  pages = {93--102},
  year = {2026},
  doi = {10.1007/s11548-025-03517-8},
}
"""

_DOSOVITSKIY = """\
@inproceedings{dosovitskiy2021,
  title = {An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale},
  author = {Dosovitskiy, Alexey and others},
  booktitle = {International Conference on Learning Representations},
  year = {2021},
}
"""

PUBLISHED: dict[str, Published] = {
    public.name: public
    for public in (
        Published(
            "sam_vit_b", "Segment Anything ViT-B, from which UltraSam was trained",
            "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth", _META, "Apache-2.0", _SAM,
            _KIRILLOV, 375_042_383, "01ec64d29a2fca3f0661936605ae66f8",
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912", natural=True,
        ),
        Published(
            "sam_vit_l", "Segment Anything ViT-L",
            "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_l_0b3195.pth", _META, "Apache-2.0", _SAM,
            _KIRILLOV, 1_249_524_607, "0b3195507c641ddb6910d2bb5adee89c",
            "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622", natural=True,
        ),
        Published(
            "sam_vit_h", "Segment Anything ViT-H",
            "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_h_4b8939.pth", _META, "Apache-2.0", _SAM,
            _KIRILLOV, 2_564_550_879, "4b8939a88964f0f4ff5f5b2642c598a6",
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e", natural=True,
        ),
        Published(
            "medsam", "MedSAM ViT-B (Ma et al. 2024)",
            "https://zenodo.org/records/10689643/files/medsam_vit_b.pth?download=1",
            "https://github.com/bowang-lab/MedSAM", "Apache-2.0",
            "Zenodo record 10689643; md5 as two projects that download it have it; size not established", _MA,
            md5="3bb6db55bd0c9ca30b61248bca72f8d6",
        ),
        Published(
            "ultrasam", "UltraSam (Meyer et al. 2024), decoder with double residual",
            "https://s3.unistra.fr/camma_public/github/ultrasam/UltraSam.pth",
            "https://github.com/CAMMA-public/UltraSam", "CC-BY-NC-SA-4.0",
            "address as a project that downloads it has it; size and digest not established", _MEYER,
        ),
        Published(
            "imagenet_vit_b", "ViT-B of ImageNet-1k, for --init only (UltraSam's comparison)",
            "https://download.openmmlab.com/mmclassification/v0/vit/vit-base-p16_pt-32xb128-mae_in1k_20220623-4c544545.pth",
            "https://github.com/open-mmlab/mmpretrain/tree/main/configs/vision_transformer", "Apache-2.0",
            "named in UltraSam's configurations for classification; address from mmpretrain's table of models, whose "
            "file name begins the sha256; sha256 as a project that downloads it has it; size not established",
            _DOSOVITSKIY, sha256="4c544545d50657b87c62ca2de1a5da8d5f12abfc80e386bfb9a37dfbdf5b3e08", natural=True,
            encoder=True,
        ),
    )
}  # fmt: skip


def identify(file: Path, sha256: str) -> Published | None:
    """Identify public weights by a published digest, or by the receipt of `us43d weights get` next to the file.

    The file's name is not used: a file of that name may hold other weights.

    Args:
        file: Weights file.
        sha256: Digest of the file in hexadecimal.

    Returns:
        The public weights; None for other files.
    """
    md5: str | None = None
    for public in PUBLISHED.values():
        if public.sha256 == sha256:
            return public
        if public.sha256 is None and public.md5 is not None:
            if md5 is None:
                with file.open("rb") as opened:
                    md5 = hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            if md5 == public.md5:
                return public
    try:
        receipt = json.loads(file.with_suffix(".json").read_bytes())
        return PUBLISHED.get(receipt["name"]) if receipt["sha256"] == sha256 else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # no valid receipt
        return None
