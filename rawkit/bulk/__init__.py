"""Many frames at once: fields as arrays; and a few fields of one frame after the other."""

from rawkit.bulk.extract import Columns, columns
from rawkit.bulk.pick import Picker

__all__ = ["Columns", "Picker", "columns"]
