"""The files of a pass as a value: saved and loaded, compared, and followed by those that are new."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from prefect_batch.blocks.file_list import File, FileList

FILE = st.builds(File, st.sampled_from("abcdef"), st.integers(0, 3), st.sampled_from("12"), st.sampled_from(["", "h"]))
FILES = st.lists(FILE, unique_by=lambda file: file.name)


@given(FILES, FILES)
def test_it_comes_back_as_it_was(files, seen):
    again = FileList.decode(FileList(files, seen).encode())
    assert (again.files, again.seen, again.digest) == (tuple(files), tuple(seen), FileList(files).digest)


@given(FILES, FILES)
def test_each_file_that_differs_is_named_and_no_other(files, now):
    current = {file.name: file for file in now}
    named = {line.partition(":")[0] for line in FileList(files).differences(now)}
    assert named == {file.name for file in files if current.get(file.name) != file}


@given(st.lists(FILES, max_size=4))
def test_every_version_of_a_file_is_read_once(listings):
    """However files come, change and go between incremental passes."""
    passed, read = FileList([]), []
    for now in listings:
        passed = passed.following(now)
        read += passed.files
        latest = {file.name: file for file in read}
        assert all(latest[file.name] == file for file in now)
    for name in "abcdef":
        versions = [file for file in read if file.name == name]
        assert all(before != after for before, after in itertools.pairwise(versions))
