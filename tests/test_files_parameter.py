"""What `Files` takes and refuses."""

import pytest
from pydantic import TypeAdapter, ValidationError

from prefect_batch.blocks.parameters.files import Files


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a.csv", "csv"),
        ("a/*.CSV.gz", "csv"),
        ("s3://b/x-*.parquet", "parquet"),
        ("a.tsv", "csv"),
        ("a.ndjson.zst", "jsonl"),
        ("sales.parquet/", "parquet"),
    ],
)
def test_the_ending_tells_the_format(path, kind):
    assert Files(path).format == kind


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": "x"}, "does not tell the files' format"),
        ({"path": "s3://key:word@bucket/x.csv"}, "carries a password"),
        ({"path": "https://host/x.csv?X-Amz-Signature=abc"}, "carries a password"),
        ({"path": "x.csv", "delimiter": ";;"}, "one ASCII character"),
        ({"path": "x.csv", "delimiter": '"'}, "must differ"),
        ({"path": "x.csv", "encoding": "utf-7"}, "depends on those before them"),
        ({"path": "x.csv", "encoding": "iso2022_jp"}, "depends on those before them"),
        ({"path": "x.csv", "encoding": "base64"}, "depends on those before them"),
        ({"path": "x.csv", "encoding": "utf-9"}, "there is no encoding 'utf-9'"),
        ({"path": "x.csv", "encoding": "cp932", "delimiter": "|"}, "cannot be found safely in cp932"),
        ({"path": "x.csv", "schema": {"a": "nope"}}, "column a has the type 'nope'"),
        ({"path": "x.csv", "columns": []}, "at least one column"),
        ({"path": "x.csv", "names": ["a", "a"]}, "each once"),
        ({"path": "x.csv", "compression": "lzma"}, "gzip, zstd or none"),
        ({"path": "x.csv", "storage": "key"}, "storage must be secret/NAME, a Secret block, or env/NAME"),
    ],
)
def test_what_is_refused_says_what_to_do(fields, message):
    with pytest.raises(ValidationError, match=message) as refused:
        Files(**fields)
    assert "word" not in str(refused.value).replace("password", "")


def test_the_parameter_comes_back_from_json():
    files = Files("a.csv", schema={"n": "int64", "price": "decimal(12, 2)", "at": "timestamp[us, UTC]"}, quote=None)
    adapter = TypeAdapter(Files)
    assert adapter.validate_json(adapter.dump_json(files)) == files


@pytest.mark.parametrize(
    "files",
    [
        Files("a.csv", quote=None, schema={"n": "int64"}, storage="secret/lake", text_nulls=True, nulls=["", "NA"]),
        Files("a.jsonl", columns=["n"], encoding="utf-16"),
        Files("a/*", format="parquet", columns=["n"]),
    ],
)
def test_a_source_comes_back_from_the_definition_of_its_job(files):
    """As a replay reads the source again."""
    saved = {name: value for name, value in files.define_source().items() if value is not None}
    assert Files(**saved) == files
