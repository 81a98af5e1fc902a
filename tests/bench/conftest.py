"""A suite that takes a second."""

from typing import Any

import pytest

from parsinet.bench import Suite

VALUES: dict[str, Any] = {
    "title": "tiny",
    "recipe": {
        "data": {"source": "digits", "batch_size": 256},
        "model": {"name": "mlp", "widths": [16, 8]},
        "method": {"name": "dense"},
        "optimizer": {"name": "adam", "lr": 5e-3},
        "epochs": 2,
        "round_to": 1,
    },
    "sizes": [700, 500],
    "errors": [0.5],
    "seeds": [0],
    "trials": 2,
    "rows": {
        "dense": {"tune": [{"optimizer.lr": 5e-3}, {"optimizer.lr": 1e-2}]},
        "magnitude": {
            "settings": {"method.name": "magnitude-units"},
            "strength": {"option": "method.share", "trials": [0.5], "values": [0.3, 0.6]},
            "tune": [{"method.begin": 0.5}, {"method.begin": 0.2}],
        },
    },
}


@pytest.fixture
def suite() -> Suite:
    return Suite.model_validate(VALUES)
