"""What the feature views are keyed by."""

from feast import Entity, ValueType

origin = Entity(name="origin", value_type=ValueType.STRING, description="Airport of departure, by its FAA code.")
aircraft = Entity(
    name="aircraft", join_keys=["tailnum"], value_type=ValueType.STRING, description="One aircraft, by tail number."
)
carrier = Entity(name="carrier", value_type=ValueType.STRING, description="Airline, by its two-letter code.")
dest = Entity(name="dest", value_type=ValueType.STRING, description="Airport of arrival, by its FAA code.")
