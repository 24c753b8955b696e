"""The timeline of a run: what is written is read back, however the file ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.operators import SNAPSHOT

from microq import timeline
from microq.fleet import Event, Topic
from microq.timeline import Frame

EVENT = Event(3.0, "a-run", "fault", "", Topic.SCENARIO, {"target": "hazelcast-5701"})


def write(folder: Path, most: int = timeline.MOST_BYTES) -> None:
    writer = timeline.Writer(folder, most)
    writer.look(SNAPSHOT)
    writer.tell(EVENT)
    writer.close()


def test_what_is_written_is_read_back_in_order(tmp_path: Path) -> None:
    write(tmp_path)
    frame, event = timeline.read(tmp_path)
    assert isinstance(frame, Frame)
    assert (frame.at, frame.snapshot) == (SNAPSHOT.taken_at, SNAPSHOT)
    assert event == EVENT


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path)
    assert len(list(timeline.read(tmp_path))) == 4


def test_nothing_is_written_before_there_is_something(tmp_path: Path) -> None:
    timeline.Writer(tmp_path).close()
    assert not list(tmp_path.iterdir())
    assert not list(timeline.read(tmp_path))
    assert not list(timeline.read(tmp_path / "no folder"))


def test_a_line_that_a_crash_cut_off_is_left_out(tmp_path: Path) -> None:
    write(tmp_path)
    file = tmp_path / timeline.FILE
    whole = file.read_text(encoding="utf-8")
    file.write_text(whole[: len(whole) - 20] + '\n[1]\n{"snapshot": {}}\n' + whole, encoding="utf-8")
    assert [type(each) for each in timeline.read(tmp_path)] == [Frame, Frame, Event]


def test_a_full_timeline_takes_no_more(tmp_path: Path) -> None:
    write(tmp_path, most=10)
    assert len(list(timeline.read(tmp_path))) == 1


def test_unwritten_events_are_counted_later_ones_complete(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    writer = timeline.Writer(folder)
    writer.tell(EVENT)
    writer.look(SNAPSHOT)
    assert writer.missing == 2
    folder.mkdir()
    (folder / timeline.FILE).symlink_to("/dev/full")
    writer.tell(EVENT)
    assert writer.missing == 3
    writer.close()
    (folder / timeline.FILE).unlink()
    write(folder)
    assert len(list(timeline.read(folder))) == 2


TORN = """
import resource, sys
from support.operators import SNAPSHOT
import os
import subprocess
import sys
from pathlib import Path
from microq import timeline
writer = timeline.Writer(Path(sys.argv[1]))
writer.look(SNAPSHOT)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, ((Path(sys.argv[1]) / timeline.FILE).stat().st_size + 50, hard))
writer.look(SNAPSHOT)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
writer.look(SNAPSHOT)
assert writer.missing == 1
"""


def test_a_line_that_a_full_disk_cut_off_spoils_none_after_it(tmp_path: Path) -> None:
    around = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", TORN, str(tmp_path)], env=around, check=True, timeout=60)
    assert len(list(timeline.read(tmp_path))) == 2
