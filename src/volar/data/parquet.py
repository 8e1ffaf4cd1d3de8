"""Rows out of parquet files, every page's checksum verified where there is one. The door to pyarrow, reading.

A null, a row of another width and a damaged page are refused, never read as a number.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int

from volar.core.errors import ConfigError
from volar.data import layout
from volar.data.cache import Recent
from volar.data.store import Store

Table: TypeAlias = pa.Table
CELL_BYTES = 512 * 2**20  # of embedded, still compressed pictures kept in memory
SMALL_BYTES = 2**20  # up to here a file is opened faster, twice, when it is read whole
NUMERIC = re.compile(r"u?int\d+|float\d+|bool")  # what info.json calls numbers
FOOTER_BYTES = 64 * 2**20  # of descriptions of files kept in memory


class ParquetFiles:
    """The data files of one data set. What it remembers is bounded, and stays with its process.

    features: as declared; columns that they do not name are never read.
    """

    def __init__(self, store: Store, features: Mapping[str, Mapping[str, Any]]) -> None:
        self._store, self._features = store, features
        self._footers: Recent[_Footer] = Recent(FOOTER_BYTES)
        self._cells: Recent[pa.ChunkedArray] = Recent(CELL_BYTES)

    def __reduce__(self) -> tuple[Any, ...]:
        return ParquetFiles, (self._store, self._features)

    def group_bounds(self, name: str) -> Int[np.ndarray, " g1"]:
        """First row of every row group of a file, and the number of its rows."""
        return self._footer(name).bounds

    def numbers(self, name: str, rows: range, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Numeric features [n d], or [n] of bookkeeping ones, of some rows of a file. names: only these of them."""
        footer, path = self._footer(name), self._store.path(name)
        if footer.bounds[-1] < rows.stop:
            raise ConfigError(
                f"{self._store.root}: {rows.stop} frames are declared in {name}, it holds {footer.bounds[-1]}; "
                f"copy it again."
            )
        columns = [column for column in footer.numeric if names is None or column in names]
        first, last = np.searchsorted(footer.bounds, [rows.start, rows.stop - 1], side="right") - 1
        table = read_table(path, columns, groups=range(first, last + 1), footer=footer.metadata)
        offset = rows.start - int(footer.bounds[first])
        found = {}
        for column, values in zip(columns, table.columns, strict=True):
            matrix = _matrix(values, path, column)[offset : offset + len(rows)]
            width = math.prod(self._features[column]["shape"])
            if matrix.shape[1] != width:
                raise ConfigError(f"{path}: {column!r} has {matrix.shape[1]} numbers a row, {width} are declared.")
            found[column] = matrix[:, 0] if column in layout.BOOKKEEPING else matrix
        return found

    def cell(self, name: str, key: str, row: int) -> Mapping[str, Any] | None:
        """What is embedded at a row of a file: {"bytes": ..., "path": ...}."""
        footer = self._footer(name)
        group = int(np.searchsorted(footer.bounds, row, side="right")) - 1
        if not 0 <= row < footer.bounds[-1]:
            raise ConfigError(f"{self._store.place(name)} has no row {row}, it holds {footer.bounds[-1]}.")

        def read() -> pa.ChunkedArray:
            groups = range(group, group + 1)
            return read_table(self._store.path(name), [key], groups=groups, footer=footer.metadata)[key]

        column = self._cells.get((name, key, group), read, lambda column: column.nbytes)
        return column[row - int(footer.bounds[group])].as_py()

    def lists(self, name: str, key: str, rows: range) -> list[list[dict[str, Any]]]:
        """A column of lists of structs at some rows of a file, as plain Python; a null is an empty list."""
        footer, path = self._footer(name), self._store.path(name)
        first, last = np.searchsorted(footer.bounds, [rows.start, rows.stop - 1], side="right") - 1
        table = read_table(path, [key], groups=range(first, last + 1), footer=footer.metadata)
        if key not in table.column_names:
            raise ConfigError(f"{path} lacks the column {key!r} that info.json declares.")
        part = table.slice(rows.start - int(footer.bounds[first]), len(rows))
        return [found or [] for found in plain(part, key, str(path))]

    def _footer(self, name: str) -> "_Footer":
        return self._footers.get(
            name, lambda: _Footer(self._store.path(name), self._features), lambda footer: footer.num_bytes
        )


class _Footer:
    """What a file says of itself, once it is known to hold what the data set declares."""

    def __init__(self, path: Path, features: Mapping[str, Mapping[str, Any]]) -> None:
        with open_parquet(path) as file:
            self.metadata, schema = file.metadata, file.schema_arrow
        require_columns(features, schema.names, path)
        self.numeric = [field.name for field in schema if field.name in features and _is_numeric(field.type)]
        _require_numbers(features, {field.name: field.type for field in schema}, self.numeric, path)
        counts = [self.metadata.row_group(group).num_rows for group in range(self.metadata.num_row_groups)]
        self.bounds = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self.num_bytes = self.metadata.serialized_size


def require_columns(features: Mapping[str, Any], columns: Sequence[str], path: Path) -> None:
    """Every declared number and embedded picture is in the data file; text and unknown kinds are left alone."""
    for key, feature in features.items():
        if (feature["dtype"] == "image" or NUMERIC.fullmatch(feature["dtype"])) and key not in columns:
            raise ConfigError(f"{path} lacks the column {key!r} that info.json declares; they do not belong together.")


def _require_numbers(
    features: Mapping[str, Any], stored: Mapping[str, pa.DataType], numeric: Sequence[str], path: Path
) -> None:
    for key, feature in features.items():
        if NUMERIC.fullmatch(feature["dtype"]) and key not in numeric:
            raise ConfigError(f"{path}: {key!r} is stored as {stored[key]}, but declared as {feature['dtype']}.")


def open_parquet(path: Path, footer: pq.FileMetaData | None = None) -> pq.ParquetFile:
    try:
        small = path.stat().st_size <= SMALL_BYTES
        content = pa.BufferReader(path.read_bytes()) if small else str(path)
        return pq.ParquetFile(content, metadata=footer, page_checksum_verification=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ConfigError(f"{path} is missing, truncated or corrupt: {error}.") from error


def read_table(
    path: Path, columns: Sequence[str] | Callable[[str], bool] | None, *,
    groups: range | None = None, footer: pq.FileMetaData | None = None,
) -> pa.Table:  # fmt: skip
    """A parquet file, or only some columns (by name, or by a question) and row groups. ConfigError if damaged."""
    with open_parquet(path, footer) as file:
        names = file.schema_arrow.names
        chosen = [name for name in names if columns(name)] if callable(columns) else columns
        everything = groups is None or groups == range(file.num_row_groups)
        try:
            if everything:
                return file.read(columns=chosen, use_threads=False)
            return file.read_row_groups(list(groups or ()), columns=chosen, use_threads=False)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise ConfigError(f"{path} is truncated or corrupt: {error}.") from error


def column_bytes(path: Path, column: str) -> int:
    """Compressed size of a column and all below it."""
    with open_parquet(path) as file:
        groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
    chunks = [group.column(place) for group in groups for place in range(group.num_columns)]
    inside = [chunk for chunk in chunks if f"{chunk.path_in_schema}.".startswith(f"{column}.")]
    return sum(chunk.total_compressed_size for chunk in inside)


def read_tables(paths: Sequence[Path], columns: Callable[[str], bool]) -> pa.Table:
    """Several files below one another; a column that some of them lack is null there."""
    return pa.concat_tables([read_table(path, columns) for path in paths], promote_options="default")


def plain(table: pa.Table, name: str, where: str) -> list[Any]:
    """A column of texts, or of lists of them. Raises ConfigError if they are not UTF-8."""
    try:
        return table[name].to_pylist()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: column {name!r} is not UTF-8 ({error.reason}).") from error


def _is_numeric(kind: pa.DataType) -> bool:
    while pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _matrix(column: pa.ChunkedArray, path: Path, name: str) -> np.ndarray:
    """A numeric column as [n d]; features of more dimensions are flattened."""
    array = column.combine_chunks()
    length = len(array)
    while not (pa.types.is_primitive(array.type) or array.null_count):
        array = array.flatten()
    if array.null_count or (length and len(array) % length):
        raise ConfigError(f"{path}: column {name!r} has missing values, or rows of unequal length.")
    return array.to_numpy(zero_copy_only=False).reshape(length, -1)
