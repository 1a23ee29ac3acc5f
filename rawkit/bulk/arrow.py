"""Columns as Arrow: a record batch behind Arrow's PyCapsule interface, which Polars and others take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rawkit.bulk.extract import Columns

# NumPy's letter for a type and its octets to the name of nanoarrow's.
_TYPES = {"u1": "uint8", "u2": "uint16", "u4": "uint32", "u8": "uint64"}


def record_batch(columns: Columns) -> Any:
    """A nanoarrow array of structs, one field a column, null where the frame has no such field.

    Integers share their memory with the columns. Rows of octets are binaries of a fixed size, `frame.time` is
    a timestamp in nanoseconds, UTC.

    Raises: `ImportError` when nanoarrow is not installed.
    """
    import numpy as np

    na = _nanoarrow()
    types, children = {}, []
    for name, values in columns.arrays.items():
        types[name] = _type(na, name, values)
        validity = np.packbits(columns.present[name], bitorder="little")
        children.append(na.c_array_from_buffers(types[name], len(columns), [validity, values]))
    return na.c_array_from_buffers(na.struct(types), len(columns), [None], children=children)


def record_stream(columns: Columns) -> Any:
    """The one batch of `record_batch` as a nanoarrow stream, which some readers want instead."""
    batch = record_batch(columns)
    return _nanoarrow().c_array_stream(batch)


def _type(na: Any, name: str, values: Any) -> Any:
    if name == "frame.time":
        return na.timestamp("ns", "UTC")
    if values.ndim > 1:
        return na.fixed_size_binary(values.shape[1])
    return getattr(na, _TYPES[values.dtype.str[1:]])()


def _nanoarrow() -> Any:
    try:
        import nanoarrow
    except ModuleNotFoundError as error:
        if error.name != "nanoarrow":
            raise
        raise ImportError("Arrow needs nanoarrow: pip install 'rawkit[arrow]'", name="nanoarrow") from None
    return nanoarrow
