"""From photographs to masks: :func:`castlit.saliency.pipeline.folder.make_masks` is the way in."""
