"""Whether a table that is written is the one that is read: by its own name, a view, a query or another URL."""

import re

from sqlalchemy import inspect

from prefect_batch.blocks.capabilities import InPlace
from prefect_batch.blocks.databases.end import SqlEnd
from prefect_batch.blocks.databases.identity import Identity
from prefect_batch.blocks.databases.keyed_rows import KeyedRows
from prefect_batch.blocks.parameters.tables import Query, Table

_WORDS = re.compile(r"\w+")


def is_in_place(source: KeyedRows, sink: SqlEnd, spec: Table) -> InPlace:
    """Return whether `spec`, the table of the sink, may be read by the source.

    Databases of one kind are asked what the names stand for. A query or a view may read any table that its database
    has: if its text names the sink's table, it is taken to read it, and otherwise nobody knows.
    """
    if source.dialect.schemes != sink.dialect.schemes or sink.missing_file:
        return "no"
    written = _identity(sink, spec)
    if isinstance(source.spec, Query):
        return _by_text(source, sink, spec, source.spec.sql)
    read = _identity(source, source.spec)
    if read is None or written is None:
        views = _definition(source, source.spec), _definition(sink, spec)
        if _names(views[1], source.spec.name):
            return "yes"
        return _by_text(source, sink, spec, views[0])
    if not read.shares(written):
        # The condition may have a SELECT of its own.
        return "perhaps" if _names(source.spec.where or "", spec.name) else "no"
    # Two servers that have the same table may be a primary and its replica.
    return "yes" if read.server == written.server else "perhaps"


def _identity(end: SqlEnd, spec: Table) -> Identity | None:
    with end.engine.connect() as connection:
        return end.dialect.identity(connection, spec.name, spec.schema)


def _by_text(source: SqlEnd, sink: SqlEnd, spec: Table, text: str) -> InPlace:
    """Return what the text of a query or view shows, if its database has a table of this name at all."""
    schema = spec.schema or inspect(sink.engine).default_schema_name
    inspector = inspect(source.engine)
    if not (inspector.has_table(spec.name) or inspector.has_table(spec.name, schema)):
        return "no"
    return "yes" if _names(text, spec.name) else "perhaps"


def _definition(end: SqlEnd, spec: Table) -> str:
    inspector = inspect(end.engine)
    is_view = spec.name in inspector.get_view_names(spec.schema)
    return str(inspector.get_view_definition(spec.name, spec.schema) or "") if is_view else ""


def _names(text: str, name: str) -> bool:
    """Return whether the name is in the text, word by word."""
    words, wanted = _WORDS.findall(text.casefold()), _WORDS.findall(name.casefold())
    return any(words[place : place + len(wanted)] == wanted for place in range(len(words))) if wanted else True
