"""Results, tables, images and pages, shared by all programs."""
