"""The functions of the example: what a team keeps in a package of its own."""

from typing import Any

from prefect_batch import processor


@processor
def clean(order: dict[str, Any]) -> dict[str, Any] | None:
    """The order with its total; cancelled ones are filtered, those without a quantity fail."""
    if order["status"] == "cancelled":
        return None
    return {"id": order["id"], "customer": order["customer"].strip(), "total": round(order["qty"] * order["price"], 2)}
