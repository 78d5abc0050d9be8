"""The cache on disk: one process makes a file, the others read it, and a damaged file is made anew."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kindaware import _cache
from kindaware._cache import Cache, CacheError, Entry, locate

ENTRY = Entry("net", {"precision": "bf16"}, {"size": 1}, ".bin")


@pytest.fixture
def cache(tmp_path):
    return Cache("weights", {"KINDAWARE_CACHE": str(tmp_path)})


def write(content):
    def writer(path):
        writer.num_calls += 1
        path.write_bytes(content)

    writer.num_calls = 0
    return writer


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"KINDAWARE_CACHE": "/of/mine", "XDG_CACHE_HOME": "/caches"}, "/of/mine"),
        ({"KINDAWARE_CACHE": "", "XDG_CACHE_HOME": "/caches"}, "/caches/kindaware"),
        ({"XDG_CACHE_HOME": "relative"}, "~/.cache/kindaware"),
        ({}, "~/.cache/kindaware"),
    ],
)
def test_locate_takes_the_first_folder_that_is_named(environment, expected):
    assert locate(environment) == Path(os.path.expanduser(expected))


def test_obtain_makes_a_file_once(cache):
    writer = write(b"abc")
    first = cache.obtain(ENTRY, writer)
    assert first.read_bytes() == b"abc"
    assert cache.obtain(ENTRY, writer) == first == cache.find(ENTRY)
    assert writer.num_calls == 1
    assert first.name.startswith("net-")
    assert first.suffix == ".bin"


def test_find_without_a_file_returns_none(cache):
    assert cache.find(ENTRY) is None


def test_obtain_from_another_source_replaces_the_files_of_the_slot(cache):
    old = cache.obtain(ENTRY, write(b"old"))
    beside = cache.obtain(Entry("net", {"precision": "16"}, {"size": 1}, ".bin"), write(b"beside"))
    new = cache.obtain(Entry("net", ENTRY.slot, {"size": 2}, ".bin"), write(b"new"))
    assert new.read_bytes() == b"new"
    assert not old.exists()
    assert beside.exists()


@pytest.mark.parametrize("damage", [b"abx", b"ab", b""])
def test_obtain_of_a_damaged_file_makes_it_anew(cache, damage):
    cache.obtain(ENTRY, write(b"abc")).write_bytes(damage)
    assert cache.find(ENTRY) is None
    assert cache.obtain(ENTRY, write(b"abc")).read_bytes() == b"abc"


def test_obtain_replaces_a_damaged_file_by_another(cache):
    damaged = cache.obtain(ENTRY, write(b"abc"))
    damaged.write_bytes(b"xyz")
    assert cache.obtain(ENTRY, write(b"abcd")).read_bytes() == b"abcd"
    assert not damaged.exists()


@pytest.fixture
def checksums(monkeypatch):
    """Paths of which a checksum was made."""
    made = []
    whole = _cache._checksum
    monkeypatch.setattr(_cache, "_checksum", lambda path: made.append(path) or whole(path))
    return made


def age(path):
    """Let a file's content be a second older, as its note knows."""
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns - 10**9))


def test_find_reads_a_file_once(cache, checksums):
    path = cache.obtain(ENTRY, write(b"abc"))
    age(path)
    checksums.clear()

    assert [cache.find(ENTRY) for _ in range(3)] == [path] * 3
    assert checksums == [path]


def test_find_reads_a_file_again_that_is_as_old_as_its_note(cache, checksums):
    path = cache.obtain(ENTRY, write(b"abc"))
    now = path.stat().st_mtime_ns
    for one in cache.folder.iterdir():
        os.utime(one, ns=(now, now))
    checksums.clear()

    assert cache.find(ENTRY) == cache.find(ENTRY) == path
    assert len(checksums) == 2


def test_find_after_a_restart_reads_a_file_again(cache, checksums, monkeypatch, tmp_path):
    path = cache.obtain(ENTRY, write(b"abc"))
    age(path)
    cache.find(ENTRY)
    (tmp_path / "boot_id").write_text("another")
    monkeypatch.setattr(_cache, "_BOOT_ID", tmp_path / "boot_id")
    checksums.clear()

    assert cache.find(ENTRY) == path
    assert checksums == [path]


def test_find_in_a_system_without_a_number_of_its_start_reads_the_file_each_time(
    cache, checksums, monkeypatch, tmp_path
):
    monkeypatch.setattr(_cache, "_BOOT_ID", tmp_path / "missing")
    path = cache.obtain(ENTRY, write(b"abc"))
    checksums.clear()

    assert cache.find(ENTRY) == cache.find(ENTRY) == path
    assert len(checksums) == 2


def test_find_of_a_file_that_is_damaged_after_it_was_read_returns_none(cache):
    path = cache.obtain(ENTRY, write(b"abc"))
    age(path)
    assert cache.find(ENTRY) == path

    path.write_bytes(b"abx")

    assert cache.find(ENTRY) is None


def test_obtain_from_another_source_leaves_no_note_of_the_old_file(cache):
    cache.obtain(ENTRY, write(b"old"))
    new = cache.obtain(Entry("net", ENTRY.slot, {"size": 2}, ".bin"), write(b"new"))

    assert [one.name for one in cache.folder.glob(".*")] == [f".{new.name}.intact"]


def test_obtain_where_writing_fails_leaves_no_file(cache):
    def fails(path):
        path.write_bytes(b"half of it")
        raise ValueError("the network has no weights")

    with pytest.raises(ValueError, match="no weights"):
        cache.obtain(ENTRY, fails)
    assert [path.suffix for path in cache.folder.iterdir()] == [".lock"]


def test_obtain_on_a_full_disk_says_so(cache):
    def fills_the_disk(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(CacheError, match=r"room for them, got OSError: .*No space left.*KINDAWARE_CACHE"):
        cache.obtain(ENTRY, fills_the_disk)


def test_obtain_overwrites_what_a_killed_process_left(cache):
    (cache.folder / f"{ENTRY.slot_name}.part.bin").write_bytes(b"left" * 100)
    path = cache.obtain(ENTRY, write(b"abc"))
    assert path.read_bytes() == b"abc"
    assert sorted(one.suffix for one in cache.folder.glob("[!.]*")) == [".bin", ".lock"]


def test_obtain_where_another_process_was_faster_takes_its_file(cache):
    writer = write(b"mine")

    class Late(Cache):
        def _locked(self, entry):
            cache.obtain(entry, write(b"theirs"))
            return super()._locked(entry)

    late = Late("weights", {"KINDAWARE_CACHE": str(cache.folder.parent)})
    assert late.obtain(ENTRY, writer).read_bytes() == b"theirs"
    assert writer.num_calls == 0


def test_obtain_by_processes_at_once_makes_one_file(tmp_path):
    program = (
        "import os, sys, time\n"
        "from kindaware._cache import Cache, Entry\n"
        "def write(path):\n"
        "    print('made')\n"
        "    time.sleep(0.3)\n"
        "    path.write_bytes(b'abc')\n"
        "path = Cache('weights', os.environ).obtain(Entry('net', {}, {}, '.bin'), write)\n"
        "assert path.read_bytes() == b'abc'\n"
    )
    environment = {**os.environ, "KINDAWARE_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", program]
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    printed = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert "".join(printed) == "made\n"


def test_a_folder_that_others_can_write_to_is_refused(tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(CacheError, match=r"this user or root, can write to, got owner \d+ and mode 777"):
        Cache("weights", {"KINDAWARE_CACHE": str(tmp_path)})


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"expected a folder that files can be written to.*NotADirectory"):
        Cache("weights", {"KINDAWARE_CACHE": str(tmp_path / "file")})


def test_obtain_of_a_file_that_is_there_needs_no_lock(cache):
    """So a folder that is read-only, as in an image, serves what it holds."""
    path = cache.obtain(ENTRY, write(b"abc"))
    lock = cache.folder / f"{ENTRY.slot_name}.lock"
    lock.unlink()
    lock.mkdir()
    assert cache.obtain(ENTRY, write(b"never")) == path


def test_a_label_with_characters_of_paths_makes_a_plain_name(cache):
    path = cache.obtain(Entry("a/b [c]", {}, {}, ".bin"), write(b"abc"))
    assert path.parent == cache.folder
    assert cache.find(Entry("a/b [c]", {}, {}, ".bin")) == path
