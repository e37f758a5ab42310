"""The parameter that names a connection: without a password, because everybody can read flow parameters."""

from typing import Annotated

from pydantic import AfterValidator

from prefect_batch.blocks.credentials import check_url


def _without_password(connection: str) -> str:
    check_url(connection)
    return connection


Connection = Annotated[str, AfterValidator(_without_password)]
