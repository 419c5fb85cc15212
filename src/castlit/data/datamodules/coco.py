"""The data module for COCO's folders."""

from pathlib import Path

from typing_extensions import Unpack

from castlit.data.datamodules.base import LoaderOptions
from castlit.data.datamodules.photographs import SaliencyDataModule
from castlit.data.io.bad_samples import OnBad
from castlit.data.io.folders import require_folder
from castlit.data.io.mask_store import is_self
from castlit.data.io.masks import MaskKind
from castlit.utils.validation import require_path


class CocoDataModule(SaliencyDataModule):
    """Batches from the folders of COCO: ``<root>/{train,val}2017/*.jpg`` and ``<masks>/{train,val}2017/*.png``.

    Args:
        root: Folder that holds ``train2017`` and ``val2017``.
        masks: Folder with the masks in folders of the same names; or ``annotations/instances_train2017.json``, a path
            or relative to ``root``, with ``instances_val2017.json`` in the same folder. None trains without masks;
            ``"self"`` is as in :class:`SaliencyDataModule`.
        val_count: See :class:`SaliencyDataModule`.
        on_bad: See :class:`SaliencyDataModule`.
        threshold: See :class:`SaliencyDataModule`.
        mask_kind: See :class:`SaliencyDataModule`.
        cache: See :class:`SaliencyDataModule`.
        **options: See :class:`SaliencyDataModule`.

    Raises:
        FileNotFoundError: A folder or file does not exist.
        InputError: An argument is out of range.
    """

    def __init__(
        self,
        root: str | Path,
        masks: str | Path | None = None,
        *,
        val_count: int | None = None,
        on_bad: OnBad = "error",
        threshold: float | None = None,
        mask_kind: MaskKind = "auto",
        cache: str | Path | None = None,
        **options: Unpack[LoaderOptions],
    ) -> None:
        images = _split_folders("root", root, "COCO's photographs (cocodataset.org: train2017.zip, val2017.zip)")
        train_masks, val_masks = _split_masks(root, masks)
        super().__init__(
            images[0],
            train_masks,
            val_images=images[1],
            val_masks=val_masks,
            val_count=val_count,
            on_bad=on_bad,
            threshold=threshold,
            mask_kind=mask_kind,
            cache=cache,
            **options,
        )


def _split_masks(root: str | Path, masks: str | Path | None) -> tuple[str | Path | None, str | Path | None]:
    """The training and validation masks: folders, the two files of annotations, ``"self"`` or None."""
    if masks is None or is_self("masks", masks):
        return masks, masks
    given = require_path("masks", masks)
    if given.suffix.lower() != ".json":
        return _split_folders("masks", given, "their masks (PNG)")
    train = given if given.is_file() else require_path("root", root) / given
    if not train.is_file():
        raise FileNotFoundError(f"masks={masks} does not exist, neither as it is nor below root={root}")
    val = train.with_name(train.name.replace("train", "val"))
    if val == train or not val.is_file():
        raise FileNotFoundError(
            f"masks={masks} must name the training annotations (instances_train2017.json), with the validation "
            "annotations (instances_val2017.json) in the same folder"
        )
    return train, val


def _split_folders(key: str, path: str | Path, content: str) -> tuple[Path, Path]:
    """The folders ``train2017`` and ``val2017`` of ``path``."""
    folder = require_folder(key, path, f"train2017 and val2017, with {content}")
    train, val = folder / "train2017", folder / "val2017"
    for split in (train, val):
        if not split.is_dir():
            raise FileNotFoundError(f"{key}={folder} has no folder {split.name}, which should hold {content}")
    return train, val
