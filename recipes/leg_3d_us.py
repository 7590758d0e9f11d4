"""LEG-3D-US: lower legs in 3-D ultrasound; soleus and both heads of gastrocnemius. Beyond US-43d."""

from collections.abc import Iterator

from us43d import masks
from us43d.contract import RawTree, Sample, Split, lazy
from us43d.facts import source

VALUES = {"soleus": 100, "gastrocnemius_medialis": 150, "gastrocnemius_lateralis": 200}
SPLITS: tuple[Split, ...] = ("train", "val", "test")


def read(raw: RawTree) -> Iterator[Sample]:
    tree = raw.at(*SPLITS)
    for split in SPLITS:
        for key in tree.glob(f"{split}/*/x*.mha"):
            with tree.reading(key):
                folder, _, name = key.rpartition("/")
                image, truth = tree.path(key), tree.path(f"{folder}/masksX{name[1:]}")
                tree.use(truth)
                shape, spacing = masks.mha_pair(image, truth)
                frames, known = shape[2] if len(shape) == 3 else 1, set(VALUES.values())
                values = {n: set(masks.label_values(masks.mha_frame(truth, n), truth)) for n in range(frames)}
                shown = [n for n in range(frames) if values[n] & known]
                if not shown:
                    yield Sample(key=f"{key}#0000", image=image, group=folder, split=split, drop="no slice is labelled")
                for n in shown:
                    labels = lazy(masks.mha_frame, truth, n)
                    yield Sample(
                        key=f"{key}#{n:04}",
                        image=lazy(masks.grey_frame, masks.mha_frame, image, n, frames),
                        masks={label: lazy(masks.equal, labels, value) for label, value in VALUES.items()},
                        group=folder,
                        split=split,
                        frame=n,
                        spacing_mm=(spacing[0], spacing[1]),
                        slice_mm=spacing[2] if len(spacing) > 2 else None,
                        remarks=tuple(f"label value {v} is of no structure" for v in sorted(values[n] - known)),
                    )


RECIPE = source(__name__, read)
