import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from llmgateway.storage import segments
from llmgateway.storage.segments import Segment, adopt, create
from tests.storage.journals import entry, files


def written(folder: Path, *lines: bytes, name: str = "boot-1") -> Segment:
    segment = create(folder, name)
    os.write(segment.file, b"".join(lines))
    segment.size_bytes = sum(map(len, lines))
    return segment


def line(number: int = 0, **fields: object) -> bytes:
    return msgspec.json.encode(entry(number, **fields)) + b"\n"


def test_a_segment_is_read_in_batches_from_what_was_shipped(tmp_path: Path) -> None:
    segment = written(tmp_path, *(line(number) for number in range(5)))

    first = segment.read(3)
    again = segment.read(3)
    segment.shipped_bytes = first.end_bytes
    second = segment.read(3)

    assert first.entries == again.entries
    assert [each.at_us % 10 for each in (*first.entries, *second.entries)] == [0, 1, 2, 3, 4]
    assert (first.last, second.last) == (False, True)


def test_a_torn_last_line_is_told_apart_from_a_broken_one(tmp_path: Path) -> None:
    segment = written(tmp_path, b"{broken}\n", b"\n", line(1), b'{"id":"req_')

    batch = segment.read(100)

    assert (batch.broken, batch.torn, len(batch.entries), batch.last) == ([b"{broken}\n"], b'{"id":"req_', 1, True)


def test_a_last_line_that_only_misses_its_newline_is_an_entry(tmp_path: Path) -> None:
    batch = written(tmp_path, line(1).rstrip()).read(100)

    assert (len(batch.entries), batch.torn) == (1, b"")


def test_a_file_without_newlines_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_LONGEST_LINE_BYTES", 1000)
    batch = written(tmp_path, b"x" * 2500, b"\n", line(1)).read(100)

    assert [len(broken) for broken in batch.broken] == [1000, 1000, 501]
    assert len(batch.entries) == 1


def test_a_zero_character_becomes_one_that_every_database_takes(tmp_path: Path) -> None:
    batch = written(tmp_path, line(requested_model="a\0b")).read(100)

    assert batch.entries[0].requested_model == "a\ufffdb"


def test_invalid_utf8_is_a_broken_line(tmp_path: Path) -> None:
    batch = written(tmp_path, line().replace(b"fast", b"\xff\xfe"), line()).read(100)

    assert (len(batch.broken), len(batch.entries)) == (1, 1)


def test_what_is_wrong_with_some_lines_costs_no_other_and_no_order(tmp_path: Path) -> None:
    odd = b'{"id": 5}\n', b"\n", line(2, requested_model="a\0b"), b'{"id":"req_' + line(3)
    batch = written(tmp_path, line(1), *odd, line(4), line(5)).read(100)

    assert [each.at_us % 10 for each in batch.entries] == [1, 2, 4, 5]
    assert batch.broken == [odd[0], odd[3]]


def test_files_are_for_this_user_alone(tmp_path: Path) -> None:
    segment = written(tmp_path, b"broken\n")
    segment.set_aside([b"broken\n", b"{}"])

    broken = files(tmp_path, ".broken")[0]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (segment.path, broken)} == {0o600}
    assert broken.read_bytes() == b"broken\n{}\n"


def test_what_belongs_to_the_living_is_not_adopted(tmp_path: Path) -> None:
    segment = written(tmp_path, line())

    assert adopt(tmp_path) == []
    segment.close()
    assert [orphan.path for orphan in adopt(tmp_path)] == [segment.path]


def test_what_a_killed_process_left_is_adopted_by_one_only(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from llmgateway.storage.segments import create\n"
        "os.write(create(Path(sys.argv[1]), 'dead-1').file, sys.argv[2].encode()); os.kill(os.getpid(), 9)"
    )
    text = line(7).decode()
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path), text], check=False)  # noqa: S603  our own

    adopted = adopt(tmp_path)

    assert done.returncode == -9
    assert [orphan.since_us % 10 for orphan in adopted] == [7]
    assert adopted[0].size_bytes == len(text)
    assert adopt(tmp_path) == []


def test_an_empty_orphan_is_deleted(tmp_path: Path) -> None:
    create(tmp_path, "boot-1").close()

    assert adopt(tmp_path) == []
    assert files(tmp_path) == []


def test_only_so_many_are_adopted_at_once(tmp_path: Path) -> None:
    for number in range(4):
        written(tmp_path, line(), name=f"boot-{number}").close()

    adopted = adopt(tmp_path, most=3)

    assert [orphan.path.stem for orphan in adopted] == ["boot-0", "boot-1", "boot-2"]
    assert len(adopt(tmp_path)) == 1


def test_a_file_that_goes_between_listing_and_locking_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, line(), name="gone-before").close()
    between = written(tmp_path, line(), name="gone-between")
    between.close()
    lock = fcntl.flock

    def slow(file: int, how: int) -> None:
        between.path.unlink(missing_ok=True)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    monkeypatch.setattr(Path, "glob", lambda *_: [tmp_path / "never-there.jsonl", between.path])

    assert adopt(tmp_path) == []


def test_a_new_file_that_was_taken_for_an_orphan_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = fcntl.flock

    def slow(file: int, how: int) -> None:
        (tmp_path / "boot-1.jsonl").unlink()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", slow)

    with pytest.raises(FileExistsError, match="dead process"):
        create(tmp_path, "boot-1")


def test_a_file_that_cannot_be_deleted_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = written(tmp_path, line())

    def refuse(_: Path, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "unlink", refuse)
    segment.remove()
    segment.close()

    assert segment.path.stat().st_size == 0


def test_a_file_that_cannot_be_read_is_kept_out_of_the_way(tmp_path: Path) -> None:
    segment = written(tmp_path, line())

    segment.set_aside_whole()

    assert (files(tmp_path), len(files(tmp_path, ".broken"))) == ([], 1)
