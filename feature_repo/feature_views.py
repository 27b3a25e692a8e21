"""The flights' feature views, the on-demand view and the service that the model reads.

Keys, features and times to live are those of `flights.views.VIEWS`, which also says how the tables are made. A view's
table is a folder of Parquet files: what a batch made of it, and what the stream pushed (``push_NAME``) since.
"""

import pandas as pd
from entities import aircraft, carrier, dest, origin
from feast import FeatureService, FeatureView, Field, FileSource, PushSource, RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float32, String

from flights.views import VIEWS
from tidegate.features.windows import CREATED

KEYS = {"origin": origin, "tailnum": aircraft, "carrier": carrier, "dest": dest}
BY_NAME = {definition.view.name: definition.view for definition in VIEWS}


def view(name: str, description: str) -> FeatureView:
    """The Feast view of one definition."""
    definition = BY_NAME[name]
    table = FileSource(
        name=f"{name}_table",
        path=f"../data/views/{name}",
        timestamp_field=definition.timestamp,
        created_timestamp_column=CREATED,
    )
    return FeatureView(
        name=name,
        description=description,
        entities=[KEYS[key] for key in definition.keys],
        ttl=definition.ttl,
        schema=[
            *(Field(name=key, dtype=String) for key in definition.keys),
            *(Field(name=feature, dtype=Float32) for feature in definition.features),
        ],
        source=PushSource(name=f"push_{name}", batch_source=table),
        online=True,
    )


weather = view("weather", "The airport's last hourly weather report.")
origin_delays = view("origin_delays", "Number and mean delay of the airport's departures in the last 3 hours.")
aircraft_delay = view("aircraft", "The aircraft's last known delay, of its departure or, once down, of its arrival.")
carrier_rates = view("carrier_rates", "Late share of the carrier's arrivals of the last 28 days, less that of all.")
dest_rates = view("dest_rates", "Late share of the arrivals there of the last 28 days, less that of all.")
carrier_delays = view(
    "carrier_delays", "Mean delay of the carrier's departures in the last 24 hours: for new aircraft."
)
all_delays = view("all_delays", "Mean delay of all departures in the last 24 hours: for new carriers.")

asked = RequestSource(name="asked", schema=[Field(name="hour", dtype=Float32)])


@on_demand_feature_view(
    sources=[asked],
    schema=[Field(name=name, dtype=Float32) for name in ("hour_sin", "hour_cos")],
    mode="pandas",
)
def at_request(inputs: pd.DataFrame) -> pd.DataFrame:
    """Worked out when asked, by the function that the live traffic calls as well."""
    import pandas as pd

    from flights.transforms import INPUTS, derived

    return pd.DataFrame(derived(*(inputs[name].to_numpy(dtype="float64", na_value=float("nan")) for name in INPUTS)))


flight_delay = FeatureService(
    name="flight_delay",
    features=[
        *(weather, origin_delays, aircraft_delay, carrier_rates, dest_rates, carrier_delays, all_delays),
        at_request,
    ],
    description="Every looked-up and derived input of the flight delay model.",
)
