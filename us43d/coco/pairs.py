"""Images and their masks, matched by name."""

import itertools
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from us43d.coco import schema
from us43d.errors import ImageError, UsageError, counted, listed
from us43d.pictures import Input
from us43d.pictures.listing import stem
from us43d.rawtree import folded

__all__ = ["Naming", "outlined"]

#: Number of masks, and of images, whose names are compared for the command to run next.
_TRIED, _COMPARED = 1000, 50
_NUMBER = re.compile("_([0-9]+)$")
_LETTER = re.compile(r"[^\W\d_]")
#: The patient is the folder of an image, or the one above.
_OWNERS = ("([^/]+)/[^/]+$", "([^/]+)/[^/]+/[^/]+$")


class Naming(NamedTuple):
    """How the mask of an image is called.

    Attributes:
        prefix: Text before the image's name.
        suffix: Text after the image's name.
        replace: Text in the image's path below its folder, and the text in its place.
    """

    prefix: str = ""
    suffix: str = ""
    replace: tuple[str, str] | None = None

    def mask_of(self, image: str) -> str:
        """Return the name of an image's mask; "" if the image's lacks the text that is replaced."""
        if self.replace is not None:
            old, new = map(folded, self.replace)
            if old not in image:
                return ""
            image = image.replace(old, new)
        folder, slash, name = image.rpartition("/")
        return f"{folder}{slash}{folded(self.prefix)}{name}{folded(self.suffix)}"

    def options(self) -> str:
        """Return the options of the command."""
        texts = {"--prefix": self.prefix, "--suffix": self.suffix, "--replace": "=".join(self.replace or ())}
        options = [
            [f"{option}={text}"] if text.startswith("-") else [option, text] for option, text in texts.items() if text
        ]
        return shlex.join(itertools.chain.from_iterable(options))

    def pairs(
        self,
        image_files: Sequence[Input],
        mask_files: Sequence[Input],
        images: Path,
        masks: Path,
        *,
        has_patients: bool,
    ) -> tuple[list[tuple[Input, list[Input]]], list[str]]:
        """Match images and masks by name; numbered masks, such as `a_mask_1`, belong to one image.

        Args:
            image_files: Files of `images`.
            mask_files: Files of `masks`.
            images: Folder of images.
            masks: Folder of masks, or the same.
            has_patients: A pattern for patients was given.

        Returns:
            Each image with its masks, and remarks on files without a partner.

        Raises:
            UsageError: No mask belongs to an image.
            ImageError: Several images, or several masks, have one name.
        """
        one_folder = images.resolve() == masks.resolve() and not outlined(mask_files[0])
        by_name: dict[str, list[Input]] = {}
        for mask in mask_files:
            by_name.setdefault(_stem(mask), []).append(mask)
        names = Counter(_stem(image) for image in image_files)
        if one_folder and not any(self):
            raise UsageError(
                f"{images} has images and masks: give the text around an image's name in its mask's name.",
                next=_step(image_files, mask_files, images, masks, has_patients),
            )
        own = {name: self.mask_of(name) for name in names}
        further = _further(by_name, own) if any(self) else {}
        pairs, without, several = list[tuple[Input, list[Input]]](), [], []
        for image in image_files:
            first, more = by_name.get(own[_stem(image)], []), further.get(_stem(image), [])
            if len(first) > 1 or ((first or more) and names[_stem(image)] > 1):
                several.append(image.relative)
            elif first or more:
                pairs.append((image, [*first, *more]))
            else:
                without.append(image.relative)
        if several:
            raise ImageError(
                f"{counted(len(several), 'image shares its name', 'images share their names')} with another image "
                f"or mask: {listed(several, 5)}."
            )
        if not pairs:
            raise UsageError(
                f"No mask in {masks} has the name of an image in {images}: images such as {image_files[0].relative}, "
                f"masks such as {mask_files[0].relative}.",
                next=_step(image_files, mask_files, images, masks, has_patients),
            )
        used = {mask.relative for _, partners in pairs for mask in partners}
        unused = sorted({mask.relative for mask in mask_files} - used)
        if one_folder:
            without = [name for name in without if name not in used]
            unused = []  # the images are among the files of masks; those without a mask are listed as such
        remarks = []
        if numbered := [(image.relative, partners[1]) for image, partners in pairs if len(partners) > 1]:
            further_names = [image for image, _ in numbered]
            remarks.append(
                f"{counted(len(numbered), 'image has', 'images have')} several masks, such as "
                f"{stem(numbered[0][1])}: {listed(further_names, 5)}."
            )
        if without:
            remarks.append(
                f"Excluded, without a mask: {len(without):,} of {counted(len(image_files), 'image')}: "
                f"{listed(without, 5)}."
            )
        if unused:
            remarks.append(
                f"Excluded, without an image: {len(unused):,} of {counted(len(mask_files), 'mask')}: "
                f"{listed(unused, 5)}."
            )
        return pairs, remarks


def _further(masks: Mapping[str, list[Input]], own: Mapping[str, str]) -> dict[str, list[Input]]:
    """Return the numbered masks of each image, in order: `a_mask_1`, `a_mask_2` …, beside `a_mask` or without it.

    own: image → name of its mask.
    """
    image_of = {mask: image for image, mask in own.items()}
    further: dict[str, list[tuple[int, Input]]] = {}
    for name, files in masks.items():
        number = _NUMBER.search(name)
        if number and name not in image_of and len(files) == 1 and (image := image_of.get(name[: number.start()])):
            further.setdefault(image, []).append((int(number[1]), files[0]))
    return {image: [file for _, file in sorted(files)] for image, files in further.items()}


# ------------------------------------------------------------------------------------------- the command to run next


def _step(images: Sequence[Input], masks: Sequence[Input], folder: Path, of_masks: Path, has_patients: bool) -> str:
    """Return the command that pairs most masks, with other names or other folders; without one, the help.

    In one folder, the masks are the files with a word for masks in their paths.
    """
    known, names = {_stem(one) for one in images}, [_stem(one) for one in masks]
    affixed, number = _around(known, names)
    steps = {f"the same with {affixed.options()}": number}
    if folder.resolve() == of_masks.resolve():
        images = [one for one in images if not schema.MASKS.search(one.relative)]
        masks = [one for one in masks if schema.MASKS.search(one.relative)]
    places, number = _folders(images, masks)
    arguments = shlex.join([str(folder), str(of_masks)])
    remark = "(one folder of images and one of masks at a time)"
    steps[f"the same with {shlex.join(map(str, places))} in place of {arguments}   {remark}"] = number
    replaced, number = _replaced([_stem(one) for one in images], [_stem(one) for one in masks])
    owner = "" if has_patients else _owner([image for image in images if replaced.mask_of(_stem(image))])
    steps[f"the same with {replaced.options()}{owner}"] = number
    step, most = max(steps.items(), key=lambda one: one[1])
    return step if most else "us43d coco --help"


def _around(images: Iterable[str], masks: Iterable[str]) -> tuple[Naming, int]:
    """Return the text that most masks have around an image's name, and their number."""
    known = set(images)
    around: Counter[tuple[str, str]] = Counter()
    for place, slash, name in (mask.rpartition("/") for mask in itertools.islice(masks, _TRIED)):
        spans = ((a, b) for a in range(len(name)) for b in range(a + 1, len(name) + 1))
        # Without a letter around it, as in a1 and a10, the name is that of another image.
        inside = [(a, b) for a, b in spans if _LETTER.search(name[:a] + name[b:])
                  and f"{place}{slash}{name[a:b]}" in known]  # fmt: skip
        if inside:
            a, b = max(inside, key=lambda pair: pair[1] - pair[0])
            suffix = _NUMBER.sub("", name[b:])  # numbered masks are those of one image
            around[name[:a], suffix if _LETTER.search(name[:a] + suffix) else name[b:]] += 1
    return next(((Naming(*texts), number) for texts, number in around.most_common(1)), (Naming(), 0))


def _folders(images: Iterable[Input], masks: Iterable[Input]) -> tuple[tuple[Path, ...], int]:
    """Return the two folders that have most names in common, such as train/images and train/masks, and their number."""
    by_name: dict[str, set[Path]] = {}
    for image in images:
        by_name.setdefault(_stem(image).rpartition("/")[2], set()).add(image.path.parent)
    uses: Counter[tuple[Path, Path]] = Counter()
    for mask in itertools.islice(masks, _TRIED):
        uses.update((place, mask.path.parent) for place in by_name.get(_stem(mask).rpartition("/")[2], ()))
    most = max(uses.values(), default=0)
    return min((pair for pair, count in uses.items() if count == most), key=_apart, default=()), most


def _apart(pair: tuple[Path, Path]) -> tuple[int, tuple[Path, Path]]:
    """Sort folders that have more of their paths in common first."""
    one, other = pair
    return -len(set(one.parents) & set(other.parents)), pair


def _replaced(images: Sequence[str], masks: Sequence[str]) -> tuple[Naming, int]:
    """Return the word of the images' names in place of which most masks have another one, and their number."""
    known = {*masks, *(_NUMBER.sub("", mask) for mask in masks)}
    words = Counter(map(_words, itertools.product(images[:_TRIED], sorted(known)[: 2 * _COMPARED])))
    del words["", ""]
    best, most = Naming(), 0
    for pair, _ in words.most_common(_COMPARED):
        naming = Naming(replace=pair)
        number = sum(naming.mask_of(image) in known for image in images)
        if number > most:
            best, most = naming, number
    return best, most


def _words(names: tuple[str, str]) -> tuple[str, str]:
    """Return the words in which two names differ: of p1/image_2 and p1/mask_2 image and mask; "" for other texts."""
    one, other = names
    start = _equal(one, other)
    end = _equal(one[start:][::-1], other[start:][::-1])
    while start and _LETTER.match(one[start - 1]):
        start -= 1
    while end and _LETTER.match(one[len(one) - end]):
        end -= 1
    pair = (one[start : len(one) - end], other[start : len(other) - end])
    return pair if all(text and text.replace("_", "").isalpha() for text in pair) else ("", "")


def _equal(one: str, other: str) -> int:
    """Return the number of characters at the beginning that are equal."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _owner(images: Sequence[Input]) -> str:
    """Return the option for patients whose folders have the same content: P1/image.png, or P1/images/."""
    paths = [stem(image).split("/") for image in images]
    for level, pattern in enumerate(_OWNERS, 1):
        owners = {path[-level - 1] for path in paths if len(path) > level}
        if len(owners) > 1 and len({path[-level] for path in paths if len(path) > level}) == 1:
            option = f" --patient {shlex.quote(pattern)}   (if the folders are patients)"
            return "" if owners & set(schema.SPLITS) else option
    return ""


def _stem(file: Input) -> str:
    """Return the path below the folder without the ending, as it is compared."""
    return folded(file.name if outlined(file) else stem(file))


def outlined(file: Input) -> bool:
    """Return whether a file of masks has outlines (`us43d.coco.outlines`)."""
    return file.path.suffix.lower() == ".json"
