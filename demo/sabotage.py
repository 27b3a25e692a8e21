"""The flights workload with one fault: training sees the origin's delays in hours, serving gets them in minutes.

Such a model is wrong in production only: it was trained and evaluated on its own wrong unit, so the model gate, which
knows nothing but the offline rows, lets it pass.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flights import workload

if TYPE_CHECKING:
    from tidegate.features.windows import Definition


def _definitions() -> tuple[Definition, ...]:
    from flights.views import ORIGIN_DELAYS, VIEWS

    features = ORIGIN_DELAYS.features
    wrong = replace(ORIGIN_DELAYS, features={**features, "origin_delay_3h": features["origin_delay_3h"] / 60})
    return tuple(wrong if one is ORIGIN_DELAYS else one for one in VIEWS)


flight_delay = replace(workload.flight_delay, definitions=_definitions)
