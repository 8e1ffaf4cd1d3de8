"""Numbers <-> tokens. One file each; none imports another."""

from volar.core.registry import Table

TABLE = Table("tokenizer", {})
