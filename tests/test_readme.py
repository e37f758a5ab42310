"""Every code block of the README and of docs/ runs, in the order in which a reader meets them."""

import os
import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import prefect_batch
from prefect_batch.blocks.opening import open_source
from prefect_batch.flows.command_line.output import Ending
from tests.test_command_line import call

ROOT = Path(prefect_batch.__file__).parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PREFECT = {
    ("automation", "create"),
    ("deploy",),
    ("deployment", "run"),
    ("server", "start"),
    ("work-pool", "create"),
    ("worker", "start"),
}
BLOCK = re.compile(r"^```(\S*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page, language):
    return [(info.strip(), code) for found, info, code in BLOCK.findall(page.read_text()) if found == language]


@pytest.fixture
def shop(tmp_path, monkeypatch, server):
    """The database into which the README's first block puts its orders, with one more table for another page."""
    monkeypatch.chdir(tmp_path)
    database = sqlite3.connect("shop.db")
    database.execute("CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT)")
    database.commit()
    yield database
    database.close()
    from prefect_batch.blocks.databases.connections import close_engines

    close_engines()


def test_the_first_job_runs_as_it_is_pasted_and_prints_what_stands_below_it(tmp_path):
    (_, code), *_ = blocks(ROOT / "README.md", "python")
    (_, output), *_ = blocks(ROOT / "README.md", "text")
    (tmp_path / "first.py").write_text(code)
    # As a newcomer has it: no server, and nothing in the home directory.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    # A machine that runs these tests may be too busy for Prefect's 20 seconds.
    environment |= {"HOME": str(tmp_path), "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180"}
    ran = subprocess.run([sys.executable, "first.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    printed = iter(ran.stdout.splitlines())
    for line in output.splitlines():
        # In order; how long it took is another matter.
        wanted = line.partition(" in ")[0]
        assert any(shown.startswith(wanted) for shown in printed), line


def test_the_python_of_every_page_runs(shop, capsys):
    names = {"__name__": "readme"}
    for page in PAGES:
        for info, code in blocks(page, "python"):
            compiled = compile(code, page.name, "exec")
            if info != "no-run":
                exec(compiled, names)
    shown = capsys.readouterr().out
    assert "clean-orders: pass 1 complete" in shown
    assert "TypeError" in shown
    # The 20 that failed at first are replayed in docs/dead-letters.md.
    assert shop.execute("SELECT count(*) FROM orders_clean").fetchone() == (2000,)
    with pytest.raises(TypeError):
        names["naive"]("shop.db")


def test_what_is_not_run_is_what_would_not_return():
    codes = [code for page in PAGES for info, code in blocks(page, "python") if info]
    assert len(codes) == 1
    assert codes[0].startswith("process_records.serve(")


def test_the_parameters_of_the_deployment_are_valid(server):
    from prefect_batch import process_records

    (code,) = (code for page in PAGES for info, code in blocks(page, "python") if info)
    asked = eval(code.strip().removeprefix("process_records.serve").replace("(", "dict(", 1))
    validated = process_records.validate_parameters(asked["parameters"])
    assert validated["sink"].create is True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist_and_links_lead_somewhere(page):
    text = page.read_text()
    commands = [line for _, code in blocks(page, "console") for line in code.splitlines()]
    for command in [*commands, *re.findall(r"`((?:make|prefect-batch) [^`]+)`", text)]:
        words = [word for word in shlex.split(command, comments=True) if not word.startswith("PYTHONPATH=")]
        if words[0] in ("cd", "set"):
            continue
        if words[0] == "make":
            assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(), command
        elif words[0] == "prefect-batch":
            assert call(words[1], "--help") == Ending.DONE, command
        elif words[:2] == ["python", "-m"]:
            assert (ROOT / "examples" / (words[2].replace(".", "/") + ".py")).exists(), command
        else:
            # They are run as they stand, in test_deployments.py.
            assert tuple(words[1:3] if words[1] != "deploy" else ["deploy"]) in PREFECT, command
            assert words[0] == "prefect", command
            for path in (word for word in words if word.endswith(".yaml")):
                assert (ROOT / path).exists(), command
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_the_pages_build_without_a_dead_link(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert built.returncode == 0, built.stdout + built.stderr
    # A page that the navigation does not name is in it all the same.
    for page in PAGES[1:]:
        name = "" if page.stem == "index" else f"{page.stem}/"
        assert (tmp_path / name / "index.html").exists()
    reference = (tmp_path / "reference" / "index.html").read_text()
    for name in ("process_records", "replay_dead_letters", "Table", "Files", "FailureRateExceeded"):
        assert 'id="prefect_batch.' in reference
        assert name in reference


def test_every_parameter_is_documented():
    text = (ROOT / "docs" / "parameters.md").read_text()
    from prefect_batch import process_records

    for name, field in process_records.parameters.properties.items():
        assert f"`{name}`" in text, name
        assert field["description"], name


def test_the_documented_sql_is_what_is_sent(postgresql):
    from prefect_batch import Table
    from prefect_batch.blocks.chunks import ChunkRange

    postgresql.run("CREATE TABLE orders (region text, id int, qty int)")
    source = open_source(Table(postgresql.url, "orders", key=["region", "id"]))
    columns = [*source.key_expressions, __import__("sqlalchemy").column("qty")]

    def sql(chunk):
        statement = source.select(*columns).where(source.within(chunk.after, chunk.upto))
        compiled = statement.order_by(*source.key_expressions).compile(dialect=source.engine.dialect)
        text = str(compiled)
        for name, value in compiled.params.items():
            text = text.replace(f"%({name})s", repr(value))
        return " ".join(text.split())

    (documented,) = (code for _, code in blocks(ROOT / "docs" / "sources-and-sinks.md", "sql"))
    assert documented.splitlines() == [
        sql(ChunkRange(None, ("eu", 1000))),
        sql(ChunkRange(("eu", 1000), ("eu", 51000))),
    ]
