"""The paper's Table 1 on any set of pictures: ``python -m refine_lib.evaluate IMAGES -o RESULTS``.

``folder`` looks after the folder of results. ``pictures`` finds and cuts the pictures, ``methods`` fills their holes,
``measures`` says how well, ``rows`` keeps what was found. ``run`` does the work here, and ``cluster`` does it on many
machines. ``tables`` turns rows into numbers, which ``texts`` and ``grids`` show. All this needs the extra ``[metrics]``; many
machines need ``[cluster]`` too. Only ``scene_features``, ``methods``, ``pictures`` and ``folder`` can be imported without them.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refine_lib.evaluate.methods import parse_method
    from refine_lib.evaluate.run import NotFid, evaluate
    from refine_lib.evaluate.tables import Table

__all__ = ["NotFid", "Table", "evaluate", "parse_method"]


def __getattr__(name: str):
    """The public names, loaded when first asked for."""
    modules = {"NotFid": "run", "Table": "tables", "evaluate": "run", "parse_method": "methods"}
    if name not in modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if any(find_spec(needed) is None for needed in ("pyarrow", "torchmetrics")):
        raise ModuleNotFoundError("the evaluation needs PyArrow and torchmetrics: pip install 'refine_lib[metrics]'")
    return getattr(import_module(f"{__name__}.{modules[name]}"), name)
