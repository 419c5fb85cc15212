"""Built-in procedural scenes: one object on a background, ten classes of each, with exact masks.

``scenes`` makes collections of them, ``render`` one scene; ``objects`` (drawn in ``creatures`` and ``things``) and
``backgrounds`` (painted in ``nature`` and ``made``, the man-made ones) have the classes.
"""

from castlit.data.scenes.backgrounds import BACKGROUNDS
from castlit.data.scenes.objects import OBJECTS
from castlit.data.scenes.render import render_scene
from castlit.data.scenes.scenes import SPLITS, Scenes

__all__ = ["BACKGROUNDS", "OBJECTS", "SPLITS", "Scenes", "render_scene"]
