"""Many frames at once: fields as arrays."""

from rawkit.bulk.extract import Columns, columns

__all__ = ["Columns", "columns"]
