"""Tables, images and pages that all programs share."""
