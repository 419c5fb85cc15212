"""Two views of an image (``views``) and their colour augmentation (``photometric``, ``device_photometric``)."""
