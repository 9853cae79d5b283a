"""What happens to the processes of a demo when one of them, or the demo itself, is killed."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.conftest import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died"),
]

SLEEPS = "import time; time.sleep(600)"
HAS_A_CHILD_THAT_LEFT_ITS_GROUP = (
    "import subprocess, sys, time; "
    "subprocess.Popen([sys.executable, '-c', 'import os, time; os.setpgid(0, 0); time.sleep(600)']); "
    "time.sleep(600)"
)


class Demo:
    """A demo of stand-ins that runs."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.said: list[str] = []
        self._known: dict[int, psutil.Process] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def running(self, marker: str) -> list[psutil.Process]:
        """Processes of the demo whose command line holds the marker."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        self._known.update((process.pid, process) for process in found)
        return [process for process in found if marker in " ".join(command_line(process))]

    def left(self) -> list[psutil.Process]:
        """Processes that ran when ``running`` was last asked, and still do."""
        return [process for process in self._known.values() if process.is_running() and not is_dead(process)]

    def end(self) -> str:
        """End the demo; all that it said."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        self._reader.join()
        return "\n".join(self.said)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip())


def command_line(process: psutil.Process) -> Sequence[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def is_dead(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def demo_of(logs: Path, **programs: str) -> Iterator[Demo]:
    command = [sys.executable, "-m", "tests.training.demo.stand_in", str(logs)]
    command += [f"{name}={program}" for name, program in programs.items()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        demo = Demo(process)
        try:
            yield demo
        finally:
            for left in demo.left():
                left.kill()
            process.kill()


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """A parent with a child in another process group, and two that sleep; all are up."""
    with demo_of(tmp_path, first=SLEEPS, parent=HAS_A_CHILD_THAT_LEFT_ITS_GROUP, other=SLEEPS) as demo:
        wait_until(lambda: len(demo.running("time.sleep(600)")) == 4)
        yield demo


def test_a_killed_process_is_started_again_and_the_child_it_left_is_ended(demo: Demo) -> None:
    (parent,) = demo.running("subprocess.Popen")
    (child,) = parent.children()
    parent.kill()
    wait_until(lambda: "parent ended (killed by SIGKILL); started again" in demo.said)
    wait_until(lambda: not child.is_running())
    wait_until(lambda: len(demo.running("time.sleep(600)")) == 4)


def test_a_killed_supervisor_is_started_again_with_all_processes(demo: Demo) -> None:
    before = demo.running("time.sleep(600)")
    (supervisor,) = demo.running("training.demo.supervisord")
    supervisor.kill()
    wait_until(lambda: "supervisord ended (killed by SIGKILL); all processes started again" in demo.said)
    wait_until(lambda: len(demo.running("time.sleep(600)")) == 4)
    assert [process for process in before if process.is_running()] == []


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_when_the_demo_ends_or_is_killed(demo: Demo, end: signal.Signals) -> None:
    demo.process.send_signal(end)
    demo.process.wait(30)
    wait_until(lambda: demo.left() == [])


def test_no_process_is_left_when_the_supervisor_was_killed_just_before(demo: Demo) -> None:
    (supervisor,) = demo.running("training.demo.supervisord")
    supervisor.kill()
    demo.end()
    assert demo.left() == []


def test_the_first_process_is_stopped_last_also_when_the_demo_is_killed(demo: Demo, tmp_path: Path) -> None:
    demo.process.kill()
    wait_until(lambda: demo.left() == [])
    log = (tmp_path / "supervisord.log").read_text()
    stopped = re.findall(r"stopped: (\w+) \(", log)
    assert set(stopped[:2]) == {"parent", "other"}
    assert stopped[2:] == ["first"]


@pytest.mark.slow
def test_a_process_that_cannot_start_ends_the_demo_with_the_end_of_its_log(tmp_path: Path) -> None:
    with demo_of(tmp_path, first=SLEEPS, broken="print('no such table: 100%'); raise SystemExit(3)") as demo:
        wait_until(lambda: demo.process.poll() is not None, seconds=60)
        said = demo.end()
    assert said.count("broken ended (exit status 3); started again") == 3
    assert "broken ends as soon as it is started; its log says\n  no such table: 100%" in said
    assert demo.left() == []
