"""From photographs to masks: :func:`castlit.saliency.making.folder.make_masks` is the way in."""
