"""Workers forked from a template: ready at once, each on its own, and nothing waits for a template that fails."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from helpers.pools import Hands, making_hands
from helpers.waiting import wait_until
from jobcard.workers import forker, messages

pytestmark = pytest.mark.skipif(not forker.works_here(), reason="a template needs Linux")

APP = """
    import os, random, signal, sys, time
    from pathlib import Path
    from jobcard import Jobcard

    jobs = Jobcard("sqlite:///never-opened.db")
    random.seed(42)
    BALLAST = list(range(1000))

    @jobs.job
    def parent() -> int:
        return os.getppid()

    @jobs.job
    def draws() -> float:
        return random.random()

    @jobs.job
    def waits(path: str) -> None:
        Path(path).touch()
        time.sleep(600)

    @jobs.job
    def ends(code: int) -> None:
        print("last words")
        os._exit(code)

    @jobs.job
    def is_killed(number: int) -> None:
        os.kill(os.getpid(), number)

    @jobs.job
    def descriptors() -> list[str]:
        links = []
        for name in sorted(os.listdir("/proc/self/fd"), key=int):
            try:
                links.append(os.readlink(f"/proc/self/fd/{name}"))
            except OSError:
                pass
        return links

    @jobs.job
    def facts() -> list:
        return [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid(), sys.stdin.fileno(),
                Path("/proc/self/oom_score_adj").read_text().strip(),
                Path(f"/proc/{os.getppid()}/oom_score_adj").read_text().strip()]
"""


@pytest.fixture
def hands(tmp_path: Path) -> Iterator[Callable[[str], Hands]]:
    yield from making_hands(tmp_path)


def test_workers_are_forked_once_it_is_there(hands: Callable[[str], Hands]) -> None:
    """The first worker is spawned; then each is the template's child, in a session of its own, and runs jobs."""
    at_work = hands(APP).with_template()
    took = at_work.spawn(1, 2, 3)
    print(f"three workers ready after {took * 1000:.1f} ms")
    assert at_work.run(0, 1, "parent") == str(os.getpid())
    for number in (1, 2, 3):
        assert at_work.run(number, 10 + number, "parent") == str(at_work.pool.template)
    ours = Path("/proc/self/oom_score_adj").read_text().strip()
    assert at_work.run(1, 20, "facts") == f'[true,true,0,"500","{ours}"]'


def test_workers_wait_for_the_first_template(hands: Callable[[str], Hands]) -> None:
    """What is asked for while it imports is forked when it is ready: the application is imported once, not often."""
    at_work = hands(APP)
    at_work.spawn(0)
    at_work.pool.use_template(True)
    at_work.spawn(1, 2)
    template = at_work.pool.template
    assert [psutil.Process(at_work.pid(number)).ppid() for number in (1, 2)] == [template] * 2


def test_every_exit_code_is_told(hands: Callable[[str], Hands]) -> None:
    """Exit codes, signals and last words of forked workers arrive as those of spawned ones, also many at once."""
    at_work = hands(APP).with_template()
    at_work.spawn(*range(1, 9))
    for number, code in ((1, 0), (2, 7), (3, 255)):
        at_work.give(number, number, "ends", code)
    for number, which in ((4, signal.SIGSEGV), (5, signal.SIGKILL), (6, signal.SIGTERM)):
        at_work.give(number, number, "is_killed", int(which))
    at_work.pool.kill(7)
    at_work.pool.retire(8)
    at_work.until(lambda: len(at_work.gone_) == 8)
    codes = [at_work.gone_[number].code for number in range(1, 9)]
    assert codes == [0, 7, 255, -signal.SIGSEGV, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGKILL, 0]
    assert "last words" in at_work.gone_[2].output
    assert not any(exit.is_lost for exit in at_work.gone_.values())
    template = psutil.Process(at_work.pool.template)
    wait_until(lambda: not template.children(), "every one of them reaped")


def test_forked_workers_draw_different_numbers(hands: Callable[[str], Hands]) -> None:
    """A seed from the import, or the template's state, does not make all workers alike."""
    at_work = hands(APP).with_template()
    at_work.spawn(1, 2, 3)
    assert len({at_work.run(number, number, "draws") for number in (1, 2, 3)}) == 3


def test_a_worker_has_no_way_to_its_neighbours(hands: Callable[[str], Hands]) -> None:
    """A socket, its pipes and its board are all it has: nothing of the template's or of other workers."""
    at_work = hands(APP).with_template()
    at_work.spawn(1, 2, 3)
    first, last = (at_work.run(number, number, "descriptors") for number in (1, 3))
    for links in (first, last):
        assert (links.count("socket:"), links.count("pidfd")) == (1, 0), links
    assert first.count('"') == last.count('"')


def test_a_job_may_end_itself_in_any_way_while_another_works(hands: Callable[[str], Hands], tmp_path: Path) -> None:
    """The death of a forked worker is its own."""
    at_work = hands(APP).with_template()
    at_work.spawn(1, 2)
    began = tmp_path / "began"
    at_work.give(1, 1, "waits", str(began))
    at_work.until(began.exists)
    at_work.give(2, 2, "is_killed", int(signal.SIGSEGV))
    at_work.until(lambda: 2 in at_work.gone_)
    assert 1 not in at_work.gone_
    assert psutil.pid_exists(at_work.pid(1))


# ------------------------------------------------------------------ orders for what is not there yet


def test_an_order_for_a_worker_that_is_being_forked_reaches_it(hands: Callable[[str], Hands]) -> None:
    """Told to end, or killed, before it lives: it does so as soon as it does."""
    at_work = hands(APP).with_template()
    at_work.pool.spawn(1)
    at_work.pool.retire(1)
    at_work.pool.spawn(2)
    at_work.pool.kill(2)
    at_work.pool.spawn(3)
    at_work.pool.share(3)
    assert at_work.pool.memory_of(3) == 0
    at_work.until(lambda: at_work.gone_.keys() >= {1, 2} and 3 in at_work.hellos)
    assert at_work.gone_[1].code == 0
    assert at_work.gone_[2].code == -signal.SIGKILL
    assert at_work.pool._workers[3].shares


# ------------------------------------------------------------------ a template that dies or hangs


def test_workers_end_with_their_template_and_nobody_is_blamed(hands: Callable[[str], Hands], tmp_path: Path) -> None:
    """SIGKILL of the template: its workers are gone, how is not known; the first, which was spawned, stays."""
    at_work = hands(APP).with_template()
    at_work.spawn(1, 2)
    began = tmp_path / "began"
    at_work.give(1, 1, "waits", str(began))
    at_work.until(began.exists)
    template = at_work.pool.template
    assert template is not None
    os.kill(template, signal.SIGKILL)
    took = at_work.until(lambda: at_work.gone_.keys() >= {1, 2})
    print(f"both gone {took * 1000:.1f} ms after their template")
    assert all(at_work.gone_[number].is_lost for number in (1, 2))
    assert at_work.pool.pids() == [at_work.pid(0)]
    # And workers can be had: of the next one, which was started at once.
    at_work.spawn(3)
    assert at_work.run(3, 3, "parent") == str(at_work.pool.template) != str(template)


def test_templates_that_keep_ending_are_replaced_after_a_while(hands: Callable[[str], Hands]) -> None:
    """The first that ends is replaced at once; the next half a minute after its start, in the background."""
    at_work = hands(APP).with_template()
    killed = at_work.pool.template
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    at_work.until(lambda: at_work.pool.template not in (killed, None) and at_work.pool.has_template)
    first = at_work.pool.template
    assert first is not None
    os.kill(first, signal.SIGKILL)
    at_work.until(lambda: at_work.pool.template is None)
    at_work.pool.tend()
    assert at_work.pool.template is None
    assert at_work.pool._forker is not None
    at_work.pool._forker._start_at -= forker.AGAIN_SECONDS
    at_work.pool.tend()
    assert at_work.pool.template is not None
    # Meanwhile nobody waits for it.
    at_work.spawn(1)
    assert psutil.Process(at_work.pid(1)).ppid() == os.getpid()
    at_work.until(lambda: at_work.pool.has_template)
    at_work.spawn(2)
    assert psutil.Process(at_work.pid(2)).ppid() == at_work.pool.template != first


def test_a_template_that_does_not_answer_is_ended(
    hands: Callable[[str], Hands], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen: what it was asked for is spawned when its time is up, and what it had forked ends with it."""
    monkeypatch.setattr(forker, "ANSWER_SECONDS", 0.5)
    at_work = hands(APP).with_template()
    at_work.spawn(1)
    template = at_work.pool.template
    assert template is not None
    os.kill(template, signal.SIGSTOP)
    at_work.pool.spawn(2)
    at_work.until(lambda: 2 in at_work.hellos and 1 in at_work.gone_, tend=True)
    assert at_work.gone_[1].is_lost
    assert psutil.Process(at_work.pid(2)).ppid() == os.getpid()
    assert at_work.pool.template != template


def test_an_end_that_a_frozen_template_does_not_tell_is_told_in_time(
    hands: Callable[[str], Hands], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is dead is not waited for longer than a template may hang."""
    monkeypatch.setattr(forker, "ANSWER_SECONDS", 0.5)
    at_work = hands(APP).with_template()
    at_work.spawn(1)
    template = at_work.pool.template
    assert template is not None
    os.kill(template, signal.SIGSTOP)
    at_work.pool.kill(1)
    at_work.until(lambda: 1 in at_work.gone_, tend=True)
    assert at_work.gone_[1].is_lost


def test_a_template_that_is_slow_is_not_hung(hands: Callable[[str], Hands]) -> None:
    """Stopped for a moment and let go: it goes on where it was."""
    at_work = hands(APP).with_template()
    template = at_work.pool.template
    assert template is not None
    os.kill(template, signal.SIGSTOP)
    at_work.pool.spawn(1)
    at_work.pool.tend()
    os.kill(template, signal.SIGCONT)
    at_work.until(lambda: 1 in at_work.hellos, tend=True)
    assert psutil.Process(at_work.pid(1)).ppid() == template


# ------------------------------------------------------------------ applications it cannot serve

PLAIN = 'from jobcard import Jobcard\njobs = Jobcard("sqlite:///never-opened.db")\n'
ONLY_HERE = "import sys\nif 'template' in sys.argv[0] or 'template' in open('/proc/self/cmdline').read():\n    "
UNFIT = {
    "starts a thread": (
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n",
        "2 run",
    ),
    "connects": ("import socket\nheld = socket.socketpair()\n", "a connection"),
    "opens SQLite": (
        "import sqlite3\nheld = sqlite3.connect('kept.db')\nheld.execute('create table if not exists t (a)').close()\n",
        "a SQLite file",
    ),
    "has a loop": ("import select\nheld = select.epoll()\n", "an event loop"),
    "cannot be imported twice": (ONLY_HERE + "raise RuntimeError('once is enough')\n", "once is enough"),
    "asks for the store": (
        ONLY_HERE + "jobs.count()\n",
        "ConfigError",
    ),
    "exits": (ONLY_HERE + "sys.exit(3)\n", "SystemExit"),
    "dies": (ONLY_HERE + "import os; os._exit(3)\n", "ended with code 3"),
    "closes everything": (ONLY_HERE + "import os; os.closerange(3, 10_000)\n", "ended with code"),
}


@pytest.mark.parametrize("name", UNFIT)
@pytest.mark.parametrize("insist", [False, True], ids=["auto", "template"])
def test_an_application_that_cannot_be_forked_is_spawned(
    hands: Callable[[str], Hands],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    name: str,
    insist: bool,
) -> None:
    """Whatever stands against it is logged, as a warning if somebody asked for it, and workers are spawned."""
    caplog.set_level(logging.INFO, "jobcard.workers")
    monkeypatch.chdir(tmp_path)
    source, why = UNFIT[name]
    at_work = hands(PLAIN + source + "@jobs.job\ndef parent():\n    import os; return os.getppid()\n")
    at_work.spawn(0)
    at_work.pool.use_template(insist)
    at_work.spawn(1)
    assert at_work.run(1, 1, "parent") == str(os.getpid())
    at_work.until(lambda: at_work.pool.template is None)
    said = [record for record in caplog.records if why in record.getMessage()]
    assert [record.levelname for record in said] == ["WARNING" if insist else "INFO"], caplog.text


def test_a_log_file_does_not_stand_against_it(hands: Callable[[str], Hands], tmp_path: Path) -> None:
    """Files that several processes may have open, and a datagram socket to a log daemon, are kept by the workers."""
    source = """
        import logging.handlers, socket
        held = open("app.log", "a"), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), open("/dev/null")
        @jobs.job
        def writes() -> int:
            held[0].write("line\\n")
            held[0].flush()
            return held[1].fileno() > 2
    """.replace("\n        ", "\n").replace("app.log", str(tmp_path / "app.log"))
    at_work = hands(PLAIN + source).with_template()
    at_work.spawn(1, 2)
    assert [at_work.run(number, number, "writes") for number in (1, 2)] == ["true", "true"]
    assert (tmp_path / "app.log").read_text() == "line\n" * 2


def test_a_thread_that_comes_later_ends_the_forking_but_no_worker(hands: Callable[[str], Hands]) -> None:
    """A timer that fires after the import: what was forked lives on, the next worker is spawned."""
    source = """
        import os, signal, threading
        def begin(*_):
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        signal.signal(signal.SIGUSR1, begin)
        @jobs.job
        def parent() -> int:
            return os.getppid()
    """.replace("\n        ", "\n")
    at_work = hands(PLAIN + source).with_template()
    at_work.spawn(1)
    template = at_work.pool.template
    assert template is not None
    os.kill(template, signal.SIGUSR1)
    wait_until(lambda: psutil.Process(template).num_threads() == 2, "a second thread")
    at_work.spawn(2)
    assert at_work.run(1, 1, "parent") == str(template)
    assert at_work.run(2, 2, "parent") == str(os.getpid())
    at_work.pool.retire(1)
    at_work.until(lambda: 1 in at_work.gone_ and at_work.pool.template is None)
    assert at_work.gone_[1].code == 0


def test_an_application_that_ignores_its_children_hides_no_exit_code(hands: Callable[[str], Hands]) -> None:
    """SIGCHLD ignored at import: codes are told all the same, and jobs find the setting as they made it."""
    source = """
        import os, signal
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        @jobs.job
        def ignores() -> bool:
            return signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
        @jobs.job
        def ends() -> None:
            os._exit(5)
    """.replace("\n        ", "\n")
    at_work = hands(PLAIN + source).with_template()
    at_work.spawn(1)
    assert at_work.run(1, 1, "ignores") == "true"
    at_work.give(1, 2, "ends")
    at_work.until(lambda: 1 in at_work.gone_)
    assert at_work.gone_[1].code == 5


def test_an_application_that_replaces_its_output_can_be_forked(hands: Callable[[str], Hands]) -> None:
    """As some colouring libraries do: what they put in place of `sys.stdout` need not be a file."""
    source = """
        import os, sys
        class Wrapped:
            def __init__(self, stream): self.stream = stream
            def write(self, text): return self.stream.write(text.upper())
            def flush(self): self.stream.flush()
        sys.stdout = Wrapped(sys.stdout)
        @jobs.job
        def shouts() -> None:
            print("words")
            os._exit(1)
    """.replace("\n        ", "\n")
    at_work = hands(PLAIN + source).with_template()
    at_work.spawn(1)
    at_work.give(1, 1, "shouts")
    at_work.until(lambda: 1 in at_work.gone_)
    assert at_work.gone_[1].output == "WORDS\n"


def test_nonsense_from_a_template_ends_it(hands: Callable[[str], Hands]) -> None:
    """Words that nobody understands come from the application; the template is no use any more."""
    source = """
        import os, signal, socket, stat
        def shout(*_):
            for name in os.listdir("/proc/self/fd"):
                try:
                    if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                        os.write(int(name), b"junk")
                except OSError:
                    pass
        signal.signal(signal.SIGUSR1, shout)
    """.replace("\n        ", "\n")
    at_work = hands(PLAIN + source).with_template()
    at_work.spawn(1)
    template = at_work.pool.template
    assert template is not None
    os.kill(template, signal.SIGUSR1)
    at_work.until(lambda: at_work.pool.template != template and 1 in at_work.gone_)
    assert at_work.gone_[1].is_lost


def test_a_system_without_templates_spawns(
    hands: Callable[[str], Hands], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Elsewhere than on Linux there is none, and who asked for one is told."""
    monkeypatch.setattr(forker.sys, "platform", "darwin")
    at_work = hands(APP)
    at_work.spawn(0)
    at_work.pool.use_template(True)
    at_work.pool.tend()
    at_work.spawn(1)
    assert "not on this system" in caplog.text
    assert at_work.run(1, 1, "parent") == str(os.getpid())


def test_its_end_takes_everything_with_it(hands: Callable[[str], Hands]) -> None:
    """The pool's last word reaches the template too, and a worker not yet forked is told as gone."""
    at_work = hands(APP).with_template()
    at_work.spawn(1)
    at_work.pool.spawn(2)
    at_work.pool.kill_all()
    at_work.until(lambda: at_work.gone_.keys() >= {0, 1, 2} and at_work.pool.template is None)
    assert at_work.pool.pids() == []
    assert messages.Exit(None, "").is_lost
