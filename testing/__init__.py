"""Suites that test whether your own source or sink keeps the contracts of `prefect_batch.blocks.contracts`.

In a test of any framework::

    from prefect_batch.testing import SourceCase, exercise_source

    def test_our_orders_can_be_a_source():
        def make(count):
            orders = [{"id": n, "total": n / 2} for n in range(count)]
            collection.replace_all(orders)
            return SourceCase(open=partial(OrdersSource, collection.name), records=orders)

        exercise_source(make)
"""

from prefect_batch.testing.cases import SinkCase, SourceCase
from prefect_batch.testing.sinks import exercise_sink
from prefect_batch.testing.sources import exercise_source

__all__ = ["SinkCase", "SourceCase", "exercise_sink", "exercise_source"]
