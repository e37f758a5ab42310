"""Parameters that name a table or a query: where it is, its key, and how it is written."""

from dataclasses import asdict, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from prefect_batch.blocks.credentials import Connection
from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.parameters.form import Tabs, leave_null_out

_Connection = Annotated[
    Connection,
    Field(
        title="Connection",
        description="An SQLAlchemy URL without a password; or its name: secret/NAME, a Secret block that holds it, "
        "env/NAME, an environment variable, or sqlalchemy-connector/NAME.",
    ),
]
KeyColumns = Annotated[
    str | list[str],
    Tabs(("column", "columns")),
    Field(title="Key", description="The column, or columns in order, that order the rows. Never NULL."),
]
# The values a person typed are not repeated in errors: one of them may be a password.
_CONFIG = ConfigDict(extra="forbid", hide_input_in_errors=True, json_schema_extra=leave_null_out)


_OF_SINK = ("write", "create", "ledger", "skipped")


def check_key(key: str | list[str]) -> str | list[str]:
    """Return the key itself.

    Raises:
        BadParameter: it names no column, or one of them twice.
    """
    names = [key] if isinstance(key, str) else list(key)
    if not names or not all(names) or len(set(names)) != len(names):
        raise BadParameter("key must name at least one column, each once: key='id' or key=['region', 'id']")
    return key


@dataclass(frozen=True, config=_CONFIG)
class Table:
    """A table, as a source to read by key ranges or as a sink to write to."""

    connection: _Connection
    name: Annotated[str, Field(min_length=1, description="The table's name.")]
    key: KeyColumns
    schema: Annotated[str | None, Field(description="The database schema, if not the default one.")] = None
    columns: Annotated[list[str] | None, Field(description="Source: the columns to read; all if empty.")] = None
    where: Annotated[str | None, Field(description="Source: an SQL condition on the rows to read.")] = None
    write: Annotated[
        Literal["upsert", "insert", "append", "update"],
        Field(description="Sink: upsert by key, insert rows with new keys, append rows, or update rows that exist."),
    ] = "upsert"
    create: Annotated[bool, Field(description="Sink: make a missing table from the first records.")] = False
    ledger: Annotated[
        bool,
        Field(
            description="Sink, insert, append, and in place: keep a ledger, so that a repeated chunk is not written "
            "twice."
        ),
    ] = True
    skipped: Annotated[
        Literal["failed", "filtered"],
        Field(
            description="Sink: what a record is that the database leaves out without an error, by a trigger, a rule "
            "or a row policy."
        ),
    ] = "failed"
    kind: Annotated[Literal["table"], Field(description="What this is; leave it.")] = "table"
    replay: ClassVar[None] = None

    @model_validator(mode="after")
    def _key(self) -> "Table":
        if self.key or self.write != "append":  # Rows that are only appended need no key.
            check_key(self.key)
        return self

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The key's columns, in order."""
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)

    @property
    def adds_rows(self) -> bool:
        """Whether writing a record again would add a second row, or be refused because the row exists."""
        return self.write in ("insert", "append")

    @property
    def forbids_overlap(self) -> str | None:
        """Why an incremental pass must not read records again, as the end of a sentence, or None if it may."""
        return f"write={self.write!r} would write them twice: use write='upsert'" if self.adds_rows else None

    @property
    def forbids_repair(self) -> str | None:
        """Why ranges of a pass must not be done again, with the way out, or None if they may."""
        return (
            "only adds rows to its sink: ranges that are done again would be written twice. Delete their rows from the "
            "sink and run the job with restart=True, or write the missing ones by hand"
            if self.adds_rows
            else None
        )

    @property
    def made_again(self) -> "Table":
        """The same sink for a replay, before which it may have got no row, and so may be missing."""
        return replace(self, create=True)

    def define_source(self) -> dict[str, Any]:
        """Return the fields that decide which records a pass reads, as JSON."""
        return {name: value for name, value in asdict(self).items() if name not in _OF_SINK}

    def define_sink(self) -> dict[str, Any]:
        """Return the fields that decide where and how records are written, as JSON."""
        return {name: value for name, value in asdict(self).items() if name not in ("columns", "where", "create")}


@dataclass(frozen=True, config=_CONFIG)
class Query:
    """A SELECT as a source, whose result must contain the key's columns."""

    connection: _Connection
    sql: Annotated[
        str, Field(title="SQL", min_length=1, description="A SELECT without ORDER BY and without a final semicolon.")
    ]
    key: KeyColumns
    kind: Annotated[Literal["query"], Field(description="What this is; leave it.")] = "query"
    replay: ClassVar[None] = None

    @field_validator("key")
    @classmethod
    def _key(cls, key: str | list[str]) -> str | list[str]:
        return check_key(key)

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The key's columns, in order."""
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)

    def define_source(self) -> dict[str, Any]:
        """Return the fields that decide which records a pass reads, as JSON."""
        return asdict(self)
