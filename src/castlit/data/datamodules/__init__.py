"""Lightning data modules (``photographs``, ``coco``, ``scenes``) on ``base``, with its sampler, datasets and loader."""
