"""Which files a pass reads: those that were there when it began, as long as they are what they were."""

from typing import Any

from prefect_batch.blocks.capabilities import OfFiles
from prefect_batch.blocks.contracts import Source
from prefect_batch.blocks.errors import BadParameter, DefinitionChanged
from prefect_batch.blocks.file_list import FileList
from prefect_batch.blocks.opening import PinnedFiles, open_source
from prefect_batch.blocks.parameters.letters import Letters
from prefect_batch.blocks.parameters.specs import SourceSpec
from prefect_batch.blocks.state.cursor import Cursor
from prefect_batch.blocks.state.job_files import load_files
from prefect_batch.flows.run.parameters import Parameters
from prefect_batch.tasks.plan.begin import define

SHOWN = 10


def pin_files(source: Source, parameters: Parameters, saved: Cursor | None, log: Any) -> Source:
    """Return the source with the files of the resumed or new pass. Those of an incremental pass are the new files.

    Raises:
        DefinitionChanged: a file of the unfinished pass has changed, or is gone.
    """
    if not isinstance(source, OfFiles):
        return source
    if parameters.pass_.overlap:
        raise BadParameter("overlap is for the keys of tables: an incremental pass over files reads new files whole")
    anew = saved is None or saved.status == "reset" or parameters.pass_.restart
    present = define(parameters.what.source, parameters.what.sink, "", {})["source"]
    if anew or saved is None or saved.definition.get("source") != present:
        return source.with_files(source.files)
    if saved.status != "complete":
        return source.with_files(_unchanged(source, saved))
    if parameters.pass_.mode == "full":
        return source.with_files(source.files)
    former = load_files(saved.job, saved.pass_number)
    if former is None:
        raise DefinitionChanged(
            f"{saved.job}: the list of the files that were read is lost, so new files cannot be told from others",
            "Read all of them with mode='full' or restart=True",
        )
    following = former.following(source.files.files)
    known = {file.name for file in (*former.seen, *former.files)}
    if changed := [file.name for file in following.files if file.name in known]:
        log.warning(
            "%s: %s files have changed since they were read, and are read again whole: %s%s",
            saved.job,
            f"{len(changed):,}",
            ", ".join(changed[:SHOWN]),
            " …" if len(changed) > SHOWN else "",
        )
    return source.with_files(following)


def _unchanged(source: OfFiles, saved: Cursor) -> FileList:
    pinned = load_files(saved.job, saved.pass_number)
    if pinned is None:
        if files_definition(source)["files"] == saved.definition.get("files"):
            return source.files
        found = ["which files they were is lost, and they are not those that are there now"]
    else:
        found = pinned.differences(source.files.files)
    if pinned is None or found:
        raise DefinitionChanged(
            f"{saved.job} has an unfinished pass over files that have changed",
            "Bring them back as they were, or start a new pass from the beginning with restart=True",
            tuple(found),
        )
    return pinned


def check_files(spec: SourceSpec, saved: Cursor) -> None:
    """Raise DefinitionChanged if files have changed since the latest pass, so that keys cannot be read again."""
    source = open_source(spec)
    if not isinstance(source, OfFiles):
        return
    pinned = load_files(saved.job, saved.pass_number)
    if found := pinned.differences(source.files.files) if pinned else []:
        raise DefinitionChanged(
            f"{saved.job}: records cannot be read again, because files have changed since",
            "Replay the letters with from_='letter', or have the changed files read again with mode='incremental'",
            tuple(found),
        )


def files_definition(source: Source | OfFiles) -> dict[str, Any]:
    """Return the part of a job's definition that identifies the files of its pass, which is empty for other sources."""
    if not isinstance(source, OfFiles):
        return {}
    files = source.files
    return {"files": {"count": len(files.files), "bytes": files.bytes, "digest": files.digest}}


def chunk_source(source: Source, spec: SourceSpec | Letters) -> SourceSpec | PinnedFiles | Letters:
    """Return the source as chunks get it: for files, with the list of the pass's files."""
    return PinnedFiles(spec, source.files) if isinstance(source, OfFiles) else spec
