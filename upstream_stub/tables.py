"""The tables and their indexes. Dates are naive UTC; prices are whole dollars."""

from sqlalchemy import Column, DateTime, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text

METADATA = MetaData()

properties = Table(
    "properties",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("address", String(120), nullable=False),
    Column("suburb", String(60), nullable=False),
    Column("state", String(3), nullable=False),
    Column("postcode", String(4), nullable=False),
    Column("property_type", String(16), nullable=False),
    Column("bedrooms", Integer, nullable=False),
    Column("bathrooms", Integer, nullable=False),
    Column("car_spaces", Integer, nullable=False),
    Column("land_size", Integer),
    Column("price", Integer, nullable=False),
    Column("latitude", Float, nullable=False),
    Column("longitude", Float, nullable=False),
    Column("description", Text, nullable=False),
    Column("views", Integer, nullable=False, default=0),
    Column("created_at", DateTime, nullable=False),
    Column("updated_at", DateTime, nullable=False),
    Column("deleted_at", DateTime),
)

price_history = Table(
    "price_history",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("property_id", ForeignKey("properties.id"), nullable=False),
    Column("event", String(16), nullable=False),
    Column("price", Integer, nullable=False),
    Column("recorded_at", DateTime, nullable=False),
)

listings = Table(
    "listings",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("property_id", ForeignKey("properties.id"), nullable=False),
    Column("source", String(16), nullable=False),
    Column("price", Integer, nullable=False),
    Column("listed_at", DateTime, nullable=False),
)

_exists = properties.c.deleted_at.is_(None)

Index("idx_properties_suburb", properties.c.suburb)
Index("idx_properties_price", properties.c.price, properties.c.id)
Index("idx_properties_views", properties.c.views, properties.c.id)
Index("idx_properties_geo", properties.c.latitude, properties.c.longitude)
Index(
    "idx_properties_suburb_price",
    properties.c.suburb,
    properties.c.price,
    properties.c.id,
    sqlite_where=_exists,
    postgresql_where=_exists,
)
Index("idx_price_history_property_date", price_history.c.property_id, price_history.c.recorded_at.desc())
Index("idx_listings_property_source", listings.c.property_id, listings.c.source)
Index("idx_listings_price", listings.c.price, listings.c.id)
