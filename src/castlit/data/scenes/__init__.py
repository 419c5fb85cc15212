"""Built-in procedural scenes: one object on a background, ten classes of each, with exact masks."""

from castlit.data.scenes.backgrounds import BACKGROUNDS
from castlit.data.scenes.objects import OBJECTS
from castlit.data.scenes.render import render_scene
from castlit.data.scenes.scenes import SPLITS, Scenes

__all__ = ["BACKGROUNDS", "OBJECTS", "SPLITS", "Scenes", "render_scene"]
