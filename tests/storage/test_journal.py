import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from llmgateway.exchange import Attempt, Call, Complete, Exchange, Trace, Usage
from llmgateway.storage import journal as journals
from llmgateway.storage.entry import LedgerEntry
from llmgateway.storage.recent import RecentEntries
from tests.deployments import deployment
from tests.storage.journals import Log, entry, files, journal_in, lines_of
from tests.timing import relative_cost


class Disk:
    """Stands in for `os.write`: takes no more than `left` bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, left: float) -> None:
        self.left = left
        self.times = 0
        self._write = os.write
        monkeypatch.setattr(os, "write", self)

    def __call__(self, file: int, content: bytes) -> int:
        self.times += 1
        if file < 0:
            return self._write(file, content)
        if self.left <= 0:
            raise OSError(28, "No space left on device")
        took = self._write(file, content if len(content) <= self.left else content[: int(self.left)])
        self.left -= took
        return took


def exchange() -> Exchange:
    made = Exchange(operation="chat", requested_model="fast", status=200, client_id="mine", model_label="fast")
    made.call = Call("chat", "fast", b"{}", user="u-1")
    made.provider, made.upstream_model, made.route_reason = "main", "gpt-4o", "only deployment"
    made.attempts = [Attempt(deployment(), made.started, made.started + 0.5, outcome="ok", upstream_status=200)]
    made.usage, made.cost_usd, made.trace = Usage(100, 20), 0.00123, Trace(0xABC, 1)
    made.reply = Complete(b"{}", model="gpt-4o-2024")
    made.ended = made.started + 0.5
    return made


def ids_in(folder: Path) -> list[str]:
    return [msgspec.json.decode(line, type=LedgerEntry).id for line in lines_of(folder)]


def test_an_exchange_is_one_line_at_once(tmp_path: Path) -> None:
    recent = RecentEntries()
    journal = journal_in(tmp_path / "journal", recent=recent)
    calls = [exchange() for _ in range(3)]
    for call in calls:
        journal.record([call])

    assert ids_in(journal.folder) == [call.id for call in calls]
    assert (journal.journaled, journal.lost, journal.idle) == (3, 0, False)
    assert recent.by_id(calls[1].id) is not None
    assert journal.backlog_bytes == files(journal.folder)[0].stat().st_size
    assert 0 <= journal.backlog_s < 5


def test_an_exchange_is_one_write_and_nothing_is_held_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = journal_in(tmp_path)
    journal.record([exchange()])  # begins the file
    disk = Disk(monkeypatch, left=float("inf"))

    for number in range(1, 4):
        journal.record([exchange()])
        assert (disk.times, len(ids_in(tmp_path))) == (number, 1 + number)


def test_exchanges_of_one_turn_are_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recent = RecentEntries()
    journal = journal_in(tmp_path, recent=recent)
    calls = [exchange() for _ in range(5)]
    journal.record(calls[:1])  # begins the file
    disk = Disk(monkeypatch, left=float("inf"))

    journal.record([calls[1], Exchange(path="/health", status=200), *calls[2:]])

    assert (disk.times, ids_in(tmp_path)) == (1, [call.id for call in calls])
    assert (journal.journaled, journal.backlog_bytes) == (5, files(tmp_path)[0].stat().st_size)
    assert all(recent.by_id(call.id) for call in calls)


def test_one_that_cannot_be_encoded_takes_no_other_with_it(tmp_path: Path) -> None:
    log = Log()
    journal = journal_in(tmp_path, log)
    calls = [exchange() for _ in range(3)]
    calls[1].cost_usd = float("nan")

    journal.record(calls)

    assert ids_in(tmp_path) == [calls[0].id, calls[2].id]
    assert [line["request_id"] for line in log.lines] == [calls[1].id]
    assert (journal.journaled, journal.lost) == (2, 1)


def test_a_turn_that_the_disk_takes_a_part_of_is_written_whole_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = journal_in(tmp_path)
    calls = [exchange() for _ in range(4)]
    journal.record(calls[:1])
    disk = Disk(monkeypatch, left=1000)
    journal.record(calls[1:])
    assert len(lines_of(tmp_path)) < 4
    assert journal.lost == 0

    disk.left = float("inf")
    assert journal.write_waiting()

    assert ids_in(tmp_path) == [call.id for call in calls]
    assert (journal.journaled, journal.lost) == (4, 0)


def test_of_a_turn_whose_torn_line_stays_no_whole_one_is_written_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = journal_in(tmp_path)
    calls = [exchange() for _ in range(5)]
    journal.record(calls[:1])
    length = files(tmp_path)[0].stat().st_size
    disk = Disk(monkeypatch, left=length * 2.5)

    def stays(_: int, __: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "ftruncate", stays)
    journal.record(calls[1:])
    disk.left = float("inf")
    assert journal.write_waiting()

    whole, torn = [], 0
    for line in lines_of(tmp_path):
        try:
            whole.append(msgspec.json.decode(line, type=LedgerEntry).id)
        except msgspec.DecodeError:
            torn += 1
    assert (whole, torn) == ([call.id for call in calls], 1)
    assert (journal.journaled, journal.lost) == (5, 0)


def test_what_asks_no_model_is_not_written_down(tmp_path: Path) -> None:
    journal = journal_in(tmp_path)

    journal.record([Exchange(path="/health", status=200)])

    assert (files(tmp_path), journal.idle, journal.backlog_s) == ([], True, 0.0)


def test_folder_and_files_are_for_this_user_alone(tmp_path: Path) -> None:
    journal = journal_in(tmp_path / "of" / "journal")
    journal.append(entry())

    assert stat.S_IMODE(journal.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(files(journal.folder)[0].stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_written_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")

    with pytest.raises(OSError, match=r"taken: the usage ledger's journal must be .*LLMGATEWAY_DATA_DIR"):
        journal_in(tmp_path / "taken")


def test_what_cannot_be_encoded_is_lost_and_said(tmp_path: Path) -> None:
    log = Log()
    journal = journal_in(tmp_path, log)
    endless = exchange()
    endless.cost_usd = float("nan")

    journal.append(entry(user_label="\ud800"))
    journal.record([endless])

    assert journal.lost == 2
    assert log.lines[1]["request_id"] == endless.id
    assert log.events == ["journal_entry_lost"] * 2


def test_a_full_disk_keeps_entries_in_memory_and_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    journal = journal_in(tmp_path, log)
    disk = Disk(monkeypatch, left=600)
    entries = [entry(number) for number in range(250)]
    for each in entries[:-1]:
        journal.append(each)
    assert journal.lost == 0
    assert journal.journaled < 5
    assert not journal.idle
    assert journal.backlog_s >= 0

    disk.left = float("inf")
    journal.append(entries[-1])
    while not journal.write_waiting():
        assert disk.times < 1000

    assert ids_in(tmp_path) == [each.id for each in entries]
    assert journal.journaled == len(entries)
    assert log.events == ["journal_not_written", "journal_written_again"]


def test_what_does_not_fit_into_memory_either_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    journal = journal_in(tmp_path, log, most_waiting=10)
    disk = Disk(monkeypatch, left=0)
    for number in range(25):
        journal.append(entry(number))
    assert journal.lost == 15

    disk.left = float("inf")
    journal.append(entry())

    assert (journal.journaled, journal.lost, len(ids_in(tmp_path))) == (11, 15, 11)
    assert log.lines[-1] == {"event": "journal_written_again", "lost": 15}


def test_a_torn_line_that_cannot_be_taken_back_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = journal_in(tmp_path)
    disk = Disk(monkeypatch, left=600)

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "ftruncate", refuse)
    entries = [entry(number) for number in range(10)]
    for each in entries:
        journal.append(each)
    disk.left = float("inf")
    assert journal.write_waiting()
    journal.close_current()

    batch = journal.closed[0].read(100)

    assert [each.id for each in batch.entries] == [each.id for each in entries]
    assert len(batch.broken) == 1
    assert journal.closed[0].size_bytes == files(tmp_path)[0].stat().st_size


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """The system itself refuses, through a limit on the size of files."""
    program = """
import resource, signal, sys
from pathlib import Path
from tests.storage.journals import entry, journal_in
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
journal = journal_in(Path(sys.argv[1]))
for number in range(50): journal.append(entry(number))
assert journal.journaled < 10 and journal.lost == 0, journal.journaled
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
assert journal.write_waiting()
print(journal.journaled, journal.lost)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)  # noqa: S603  our own

    assert done.stdout == "50 0\n"
    assert len(ids_in(tmp_path)) == 50


def test_a_large_segment_is_closed_by_itself(tmp_path: Path) -> None:
    journal = journal_in(tmp_path, segment_bytes=1000)
    for number in range(20):
        journal.append(entry(number))

    assert len(journal.closed) == len(files(tmp_path)) > 4
    assert len(ids_in(tmp_path)) == 20
    assert journal.backlog_bytes == sum(path.stat().st_size for path in files(tmp_path))


def test_a_folder_that_somebody_deletes_comes_back(tmp_path: Path) -> None:
    journal = journal_in(tmp_path / "journal")
    journal.folder.rmdir()

    journal.append(entry())

    assert len(ids_in(journal.folder)) == 1


def test_a_file_that_cannot_be_started_is_like_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    journal = journal_in(tmp_path, log)

    def refuse(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(journals, "create", refuse)
    journal.append(entry())
    assert (journal.journaled, journal.lost, log.lines[0]["reason"]) == (0, 0, "Too many open files")
    monkeypatch.undo()

    assert journal.write_waiting()
    assert journal.journaled == 1


def test_two_journals_share_a_folder(tmp_path: Path) -> None:
    one, two = journal_in(tmp_path), journal_in(tmp_path)
    one.append(entry())
    two.append(entry())

    assert len(files(tmp_path)) == 2


def test_the_end_leaves_what_was_not_shipped_and_no_empty_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    left, empty = journal_in(tmp_path), journal_in(tmp_path, log)
    left.append(entry())
    Disk(monkeypatch, left=0)
    empty.append(entry())

    left.close()
    empty.close()

    assert len(files(tmp_path)) == len(ids_in(tmp_path)) == 1
    assert (empty.lost, log.events) == (1, ["journal_not_written", "journal_entries_lost"])


@pytest.mark.alone
def test_writing_an_exchange_down_costs_little_more_than_its_json(tmp_path: Path) -> None:
    journal, call = journal_in(tmp_path), exchange()

    # 2 on a quiet machine; the margin is three.
    assert relative_cost(lambda: journal.record([call]), number=5000) < 6
