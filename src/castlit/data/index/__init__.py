"""Build and open the index of a folder (``cache``, ``build``), and read images and masks with it (``file_source``)."""
