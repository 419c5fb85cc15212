"""Read images, masks and annotations from files."""
