"""The notebooks in examples/ run from top to bottom, in a kernel, as their readers run them."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import prefect_batch

NOTEBOOKS = sorted((Path(prefect_batch.__file__).parent / "examples").glob("*.ipynb"))


def run(path, directory):
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(directory)}})
    return [cell for cell in client.execute().cells if cell.cell_type == "code"]


def html(cell):
    return "".join(output.get("data", {}).get("text/html", "") for output in cell.outputs)


@pytest.mark.usefixtures("server")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
def test_a_table_is_processed_from_cells_looked_at_and_mended(tmp_path):
    (path,) = NOTEBOOKS
    cells = run(path, tmp_path)
    (processed,) = (cell for cell in cells if "process_records(" in cell.source)
    # The bar is drawn in place, and ends at the end; then the report shows itself.
    assert re.search(r'<progress style="[^"]+" value="60000" max="60000">', html(processed))
    assert "60,000 of 60,000 records (100.0%)" in html(processed)
    assert "notebook-orders: pass 1 complete" in html(processed)
    (grouped,) = (cell for cell in cells if cell.source.startswith("from prefect_batch import dead_letters"))
    assert "TypeError" in html(grouped)
    assert "in total" in html(grouped)
    ending = cells[-1].outputs[0].data["text/plain"]
    counts = dict(line.split() for line in ending.splitlines()[:-1])
    assert int(counts["cancelled"]) + int(counts["written"]) == int(counts["orders"])
    assert counts["open"] == "0"


def test_notebooks_are_kept_without_outputs():
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            assert not cell.get("outputs"), path
