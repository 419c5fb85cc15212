"""The index of a folder of images and masks, and the source that reads by it."""
