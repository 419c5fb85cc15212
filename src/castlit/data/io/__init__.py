"""Read images (``images``), masks (``masks``, ``mask_fit``) and COCO annotations; report bad ones (``bad_samples``)."""
