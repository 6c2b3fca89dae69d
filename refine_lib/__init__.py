"""Feature refinement for high-resolution inpainting, at test time, for any network.

The names in ``__init__.pyi`` are loaded when they are first used.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
