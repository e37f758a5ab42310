"""What every store of files promises: a directory, one for this user only, memory, and S3 (a server of moto)."""

import contextlib
import stat
import uuid

import pytest

from prefect_batch.blocks.stores.opening import open_store
from prefect_batch.blocks.stores.store import drop, full_name, put


@pytest.fixture(params=["directory", "private", "memory", "s3"])
def store(request, tmp_path):
    if request.param == "s3":
        return open_store(f"{request.getfixturevalue('s3_bucket')}/{uuid.uuid4().hex}/place")
    if request.param == "memory":
        return open_store(f"memory://{uuid.uuid4().hex}/place")
    return open_store(str(tmp_path / "new" / "place"), private=request.param == "private")


def fail(store):
    with store.new("a/one") as file:
        file.write(b"half of")
        raise ZeroDivisionError


def content_of(store, name):
    with store.open(name) as file:
        return file.read()


def test_a_place_that_is_not_there_is_empty(store):
    assert store.find("a") == store.names() == store.names("a") == []
    assert store.get(["a/one"]) == {}
    assert not store.exists("a/one")
    store.remove(["a/one"])
    store.remove_directory("a")
    with pytest.raises(FileNotFoundError):
        store.open("a/one").read()


def test_files_are_found_by_their_names(store):
    for name in ("b/two", "a/deep/er", "a/one", "top", "a/.hidden"):
        put(store, name, name.encode())
    assert store.find("a") == ["a/.hidden", "a/deep/er", "a/one"]
    assert store.names("a") == ["deep/", "one"]
    assert store.names() == ["a/", "b/", "top"]
    assert store.get(["a/one", "a/two", "top"]) == {"a/one": b"a/one", "top": b"top"}
    assert content_of(store, "a/deep/er") == b"a/deep/er"
    assert store.exists("a/one")
    assert not store.exists("a/two")
    assert full_name(store, "top") == f"{store.place}/top"


def test_a_file_appears_when_its_block_ends_and_tells_its_size_and_digest(store):
    with store.new("a/one") as file:
        file.write(b"some")
        assert not store.exists("a/one")
        file.write(memoryview(b"thing"))
    assert content_of(store, "a/one") == b"something"
    assert (file.bytes, file.tell()) == (9, 9)
    assert file.sha256 == "3fc9b689459d738f8c88a3a48aa9e33542016b7a4052e001aaa536fca74813cb"


@pytest.mark.parametrize("by", ["error", "drop"])
def test_a_block_that_fails_changes_nothing(store, by):
    put(store, "a/one", b"former")
    blocks = contextlib.ExitStack()
    if by == "error":
        with pytest.raises(ZeroDivisionError):
            fail(store)
    else:
        blocks.enter_context(store.new("a/one")).write(b"half of")
        drop(blocks)
    drop(blocks)
    assert store.find("") == ["a/one"]
    assert content_of(store, "a/one") == b"former"


def test_a_block_that_fails_leaves_no_upload_in_s3(s3_bucket, monkeypatch):
    import s3fs

    files, opened = s3fs.S3FileSystem, []
    plain = files.open
    monkeypatch.setattr(files, "open", lambda *args, **more: opened.append(plain(*args, **more)) or opened[-1])
    with pytest.raises(ZeroDivisionError):
        fail(open_store(f"{s3_bucket}/uploads"))
    opened.pop().__del__()  # As Python calls it some time later.
    assert "Uploads" not in files().call_s3("list_multipart_uploads", Bucket="bucket")


def test_a_file_replaces_one_of_its_name_but_for_the_first_one(store):
    put(store, "a/one", b"former")
    put(store, "a/one", b"latter")
    assert content_of(store, "a/one") == b"latter"
    assert store.put_first("a/two", b"first")
    assert not store.put_first("a/two", b"second")
    assert content_of(store, "a/two") == b"first"


def test_a_move_may_be_repeated(store):
    put(store, "a/one", b"one")
    for _ in range(2):
        store.move("a/one", "two")
        assert content_of(store, "two") == b"one"
    with pytest.raises(FileNotFoundError):
        store.move("a/none", "three")


def test_what_is_removed_is_gone(store):
    for name in ("a/one", "a/deep/er", "b/two"):
        put(store, name, b"x")
    store.remove(["a/one", "b/none"])
    assert store.find("") == ["a/deep/er", "b/two"]
    store.remove_directory("a")
    assert store.find("") == ["b/two"]


def test_just_memory_is_seen_by_this_process_alone(store):
    assert store.only_here is store.place.startswith("memory://")


def test_a_private_directory_is_for_its_user_only(tmp_path):
    put(open_store(str(tmp_path / "mine"), private=True), "deep/one", b"x")
    put(open_store(str(tmp_path / "ours")), "deep/one", b"x")
    mode = lambda path: stat.S_IMODE((tmp_path / path).stat().st_mode)  # noqa: E731
    assert [mode(path) for path in ("mine", "mine/deep", "mine/deep/one")] == [0o700, 0o700, 0o600]
    assert mode("ours/deep/one") & 0o440 == 0o440
