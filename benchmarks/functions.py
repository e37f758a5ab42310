"""What every case does with a record, in each form; `data` says the same in SQL."""

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from prefect_batch import processor


def clean_order(order):
    return {
        "o_orderkey": order["o_orderkey"],
        "o_custkey": order["o_custkey"],
        "total": round(float(order["o_totalprice"]) * 1.19, 2),
        "o_orderdate": order["o_orderdate"],
        "remark": order["o_comment"].upper(),
    }


def clean_line(line):
    total = float(line["l_extendedprice"]) * (1 - float(line["l_discount"])) * (1 + float(line["l_tax"]))
    return {
        "l_orderkey": line["l_orderkey"],
        "l_linenumber": line["l_linenumber"],
        "total": round(total, 2),
        "l_shipdate": line["l_shipdate"],
        "remark": line["l_comment"].upper(),
    }


@processor(vectorized=True)
def clean_order_frame(orders: pd.DataFrame):
    kept = orders[["o_orderkey", "o_custkey", "o_totalprice", "o_orderdate", "o_comment"]]
    kept = kept.rename(columns={"o_totalprice": "total", "o_comment": "remark"})
    return kept.assign(total=(kept["total"].astype(float) * 1.19).round(2), remark=kept["remark"].str.upper())


@processor(vectorized=True)
def clean_order_table(orders: pa.Table):
    total = pc.round(pc.multiply(orders["o_totalprice"].cast(pa.float64()), 1.19), 2)
    kept = orders.select(["o_orderkey", "o_custkey", "__record__", "o_orderdate"])
    return kept.append_column("total", total).append_column("remark", pc.utf8_upper(orders["o_comment"]))


@processor(vectorized=True)
def clean_line_table(lines: pa.Table):
    price, discount, tax = (lines[name].cast(pa.float64()) for name in ("l_extendedprice", "l_discount", "l_tax"))
    total = pc.round(pc.multiply(pc.multiply(price, pc.subtract(1.0, discount)), pc.add(1.0, tax)), 2)
    kept = lines.select(["l_orderkey", "l_linenumber", "__record__", "l_shipdate"])
    return kept.append_column("total", total).append_column("remark", pc.utf8_upper(lines["l_comment"]))


TABLE = {"orders": clean_order_table, "lineitem": clean_line_table}
RECORD = {"orders": clean_order, "lineitem": clean_line}


def failing(per_mille, where):
    """`clean_order`, but of 1,000 records so many, spread evenly, fail in it or will be refused by the sink."""

    def clean(order):
        cleaned = clean_order(order)
        number = order["o_orderkey"] // 32 * 8 + order["o_orderkey"] % 8  # TPC-H uses 8 keys of 32.
        if number * 7919 % 1000 < per_mille:
            if where == "process":
                raise ValueError("a bad order")
            cleaned["total"] = -1.0
        return cleaned

    return clean
