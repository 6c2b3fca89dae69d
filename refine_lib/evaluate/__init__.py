"""The paper's Table 1 on any set of pictures: ``python -m refine_lib.evaluate IMAGES -o RESULTS``.

``pictures`` finds and cuts them, ``methods`` fills their holes, ``measures`` says how well, ``rows`` keeps what was found,
``run`` does the work here and ``cluster`` on many machines, ``tables`` makes numbers of it, ``texts`` and ``grids`` show them.
It needs the extra ``[metrics]``, and ``[cluster]`` for many machines.
"""

import importlib.util

if any(importlib.util.find_spec(name) is None for name in ("pyarrow", "torchmetrics")):
    raise ModuleNotFoundError("the evaluation needs PyArrow and torchmetrics: pip install 'refine_lib[metrics]'")

from refine_lib.evaluate.methods import parse_method
from refine_lib.evaluate.run import NotFid, evaluate
from refine_lib.evaluate.tables import Table

__all__ = ["NotFid", "Table", "evaluate", "parse_method"]
