"""A function whose errors and log lines show what they should not, importable by worker processes."""

import logging

from prefect_batch import StopBatch, processor


@processor
def picky(person):
    logging.getLogger("shop").warning("checking %s", person["email"])
    if person["grade"] == 3:
        raise ValueError(f"bad address {person['email']}")
    if person["grade"] == 4:
        return {"id": person["id"], "email": person["email"].upper()}
    if person["grade"] == 9 and person["id"] > 50:
        raise StopBatch(f"enough of {person['email']}")
    return {"id": person["id"], "email": person["email"]}
