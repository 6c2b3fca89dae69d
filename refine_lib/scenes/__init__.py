"""Pictures that the package draws itself, so that what belongs into a hole is known.

``planes``: planes in perspective with patterns, the pictures of the lessons.
``strokes``: holes, quickly drawn. ``brushes``: the holes of the paper's Table 1. Each draws from a seed alone.
"""

from refine_lib.scenes.planes import PATTERNS, Scenes, random_scenes

__all__ = ["PATTERNS", "Scenes", "random_scenes"]
