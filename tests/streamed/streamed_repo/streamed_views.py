"""The Feast repo of `streamed.workload`."""

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import Float32, String
from streamed.workload import DEFINITIONS

key = Entity(name="key", value_type=ValueType.STRING)


def view(definition):
    one = definition.view
    table = FileSource(
        name=f"{one.name}_table",
        path=f"../data/views/{one.name}",
        timestamp_field=one.timestamp,
        created_timestamp_column="created",
    )
    return FeatureView(
        name=one.name,
        entities=[key] if one.keys else [],
        ttl=one.ttl,
        schema=[
            *(Field(name=name, dtype=String) for name in one.keys),
            *(Field(name=name, dtype=Float32) for name in one.features),
        ],
        source=PushSource(name=f"push_{one.name}", batch_source=table),
        online=True,
    )


latest, spending, everybody = (view(one) for one in DEFINITIONS)
streamed = FeatureService(name="streamed", features=[latest, spending, everybody])
