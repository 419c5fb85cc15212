"""Two views of an image: crops, flips and colour augmentation."""
