"""The engine's side of its workers: start, hand over, take back, tell, kill, and hear what they say.

A worker is spawned, or forked from a template that has imported the application (`forker.py`). Start workers from
the engine's main thread only: they die with the thread that started them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import selectors
from collections.abc import Sequence
from typing import Any, Protocol

from jobcard.core.job import Claimed
from jobcard.workers import board, forker, messages
from jobcard.workers.forker import Forker, State
from jobcard.workers.messages import Exit, Why
from jobcard.workers.worker_process import Forked, Process, Spawned, Unborn, WorkerProcess, pass_on

log = logging.getLogger("jobcard.workers")

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PERMITS_AT_ONCE = 1 << 12
_READS_AT_ONCE = 16


class Listener(Protocol):
    """Who hears what happens to workers."""

    def message(self, number: int, message: list[Any]) -> None:
        """A worker said something."""
        ...

    def gone(self, number: int, unstarted: Sequence[int], exit: Exit) -> None:
        """A worker process has ended; everything it said came before."""
        ...


class Pool:
    """All workers of one engine, behind one selector."""

    def __init__(self, selector: selectors.BaseSelector, listener: Listener, boot: dict[str, Any]) -> None:
        """boot: what every worker is told first."""
        self._selector = selector
        self.listener = listener
        self._boot = messages.encode([messages.BOOT, boot])
        self._boot_plain = boot
        self._workers: dict[int, WorkerProcess] = {}
        self._unborn: dict[int, Unborn] = {}
        self._forker: Forker | None = None

    def pids(self) -> list[int]:
        """The processes that are alive, as far as we know."""
        return [worker.pid for worker in self._workers.values()]

    def pid_of(self, number: int) -> int | None:
        """The process of a worker; None when it is gone, or not there yet."""
        worker = self._workers.get(number)
        return None if worker is None else worker.pid

    @property
    def template(self) -> int | None:
        """The process id of the template, while there is one."""
        return None if self._forker is None else self._forker.pid

    @property
    def has_template(self) -> bool:
        """Whether workers are forked now."""
        return self._forker is not None and self._forker.state is State.READY

    def use_template(self, insist: bool) -> None:
        """From now on fork workers from a template wherever that works; once a worker has said hello.

        insist: somebody asked for it, so it is worth a warning if it does not work.
        """
        if not forker.works_here():
            log.log(logging.WARNING if insist else logging.INFO, "template: not on this system; workers are spawned")
            return
        self._forker = Forker(self._selector, self, self._boot_plain, insist=insist)
        if any(_threads_of(worker.pid) > 1 for worker in self._workers.values()):
            self._forker.hurry()  # most likely it will find threads too, and be of no use
        self._forker.start()

    def tend(self) -> None:
        """Look after the template, and remind those who were told; call it every second or so."""
        for worker in self._workers.values():
            if worker.told:
                board.ring(worker.pid)
        if self._forker is not None:
            self._forker.tend()

    # -------------------------------------------------------------- orders

    def spawn(self, number: int) -> None:
        """Start a worker; OSError when the system has no room for one."""
        unborn = Unborn()
        if self._forker is not None and self._forker.order(number, unborn.channels):
            self._unborn[number] = unborn
        else:
            self._start(number, unborn)

    def _start(self, number: int, unborn: Unborn) -> None:
        try:
            process = Spawned(unborn.channels)
        except OSError:
            unborn.channels.close()
            raise
        self._begin(number, unborn, process)

    def _begin(self, number: int, unborn: Unborn, process: Process) -> None:
        unborn.channels.give_away()
        worker = WorkerProcess(number, process, unborn.channels)
        worker.shares, worker.early = unborn.shares, unborn.early
        self._workers[number] = worker
        self._selector.register(worker.sock, selectors.EVENT_READ, lambda: self._socket_ready(worker))
        self._selector.register(worker.output, selectors.EVENT_READ, lambda: self._output_ready(worker))
        if process.pidfd >= 0:
            self._selector.register(process.pidfd, selectors.EVENT_READ, lambda: self._died(worker))
        _raise_oom_score(worker)
        self._write(worker, self._boot)
        if unborn.doomed:
            process.kill()

    def send(self, number: int, jobs: list[tuple[int, Claimed, float]]) -> None:
        """Hand jobs over, in order: first what they are, then the permits to start them."""
        worker = self._workers.get(number)
        if worker is None:
            return
        if worker.broken:
            worker.kept_back += [job[0] for job in jobs]  # it is as good as dead; they were not started
            return
        self._write(worker, messages.encode([messages.JOBS, jobs]))
        with contextlib.suppress(BrokenPipeError):
            os.write(worker.channels.permits_in, b"".join(messages.PERMIT.pack(job[0]) for job in jobs))

    def recall(self, number: int) -> list[int]:
        """Take back the permits a worker has not read: those jobs were not and will not be started."""
        worker = self._workers.get(number)
        return [] if worker is None else self._unread_permits(worker)

    def reply(self, number: int, call: int, error: dict[str, Any] | None, answer: bytes | None) -> None:
        """Answer a store verb that a job asked for."""
        worker = self._workers.get(number)
        if worker is not None:
            self._write(worker, messages.encode([messages.REPLY, call, error, answer]))

    def share(self, number: int) -> None:
        """Let a worker that has run nothing yet run its jobs side by side from now on."""
        worker = self._find(number)
        if worker is not None:
            worker.shares = True
            self._say(worker, [messages.SHARE])

    def tell(self, number: int, seq: int, why: str, reason: str) -> None:
        """Tell a running job that it shall end. why: a `messages.Why`. reason: its own words."""
        worker = self._workers.get(number)
        if worker is None or worker.broken:
            return
        if worker.shares:
            self._say(worker, [messages.CANCEL, seq, why, reason])
        else:
            # Its only thread runs the job and reads no messages: a page of memory, and a signal to look there.
            worker.channels.board.post(seq, Why(why), reason)
            worker.told = True
            board.ring(worker.pid)

    def retire(self, number: int) -> None:
        """Tell a worker that there will be no more."""
        worker = self._find(number)
        if worker is not None:
            self._say(worker, [messages.STOP])

    def with_farewell(self) -> list[int]:
        """The workers that have something to see to after their last job."""
        return [worker.number for worker in self._workers.values() if worker.has_farewell and not worker.broken]

    def kill(self, number: int) -> None:
        """SIGKILL a worker and everything in its process group."""
        worker = self._find(number)
        if isinstance(worker, Unborn):
            worker.doomed = True
        elif worker is not None:
            worker.process.kill()

    def kill_all(self) -> None:
        """SIGKILL every worker and the template, without waiting."""
        for number in [*self._workers, *self._unborn]:
            self.kill(number)
        if self._forker is not None:
            self._forker.kill()

    def _find(self, number: int) -> WorkerProcess | Unborn | None:
        return self._workers.get(number) or self._unborn.get(number)

    def _say(self, worker: WorkerProcess | Unborn, message: list[Any]) -> None:
        if isinstance(worker, WorkerProcess) and worker.ready:
            self._write(worker, messages.encode(message))
        else:
            worker.early += messages.encode(message)

    def take_output(self, number: int) -> str:
        """The last of what a worker printed, and forget it: its job has ended, and what comes now is the next one's."""
        worker = self._workers[number]
        self._read_output(worker)
        output = worker.last_output()
        worker.forget_output()
        return output

    def forget_output(self, number: int) -> None:
        """A worker's job has ended well: nobody will ask what it printed."""
        self._workers[number].forget_output()

    def memory_of(self, number: int) -> int:
        """Bytes of memory a worker has resident; 0 when it is gone."""
        worker = self._workers.get(number)
        if worker is None:
            return 0
        try:
            with open(f"/proc/{worker.pid}/statm", "rb") as file:  # noqa: PTH123 - five times a second
                return int(file.read().split()[1]) * _PAGE
        except (OSError, IndexError, ValueError):
            return 0

    # -------------------------------------------------------------- what the template says

    def forked(self, number: int, process: Forked) -> None:
        """A worker lives."""
        self._begin(number, self._unborn.pop(number), process)

    def not_forked(self, number: int) -> None:
        """A worker has to be spawned after all."""
        unborn = self._unborn.pop(number)
        try:
            if unborn.doomed:
                raise OSError("killed before it was started")
            self._start(number, unborn.renew())
        except OSError as error:
            unborn.channels.close()
            self.listener.gone(number, [], Exit(None, str(error)))

    def exited(self, number: int, code: int | None) -> None:
        """A forked worker is dead."""
        worker = self._workers.get(number)
        if worker is not None and isinstance(worker.process, Forked):
            worker.process.exited(code)
            self._ended(worker)

    def orphaned(self) -> None:
        """The template is dead: its workers are dying, and nobody will say how they ended."""
        for worker in list(self._workers.values()):
            if isinstance(worker.process, Forked) and not worker.process.is_orphan:
                worker.process.is_orphan = True
                worker.process.kill()
                if worker.process.is_dead:
                    self._ended(worker)

    def _died(self, worker: WorkerProcess) -> None:
        if worker.number not in self._workers:
            return
        if isinstance(worker.process, Forked) and not worker.process.is_orphan:
            # The template says how, and holds its process id until then.
            self._unregister(worker.process.pidfd)
            worker.process.is_dead = True
            assert self._forker is not None
            self._forker.saw_end(worker.number)
        else:
            self._ended(worker)

    # -------------------------------------------------------------- what happens

    def _socket_ready(self, worker: WorkerProcess) -> None:
        if worker.number not in self._workers or worker.broken:
            return  # it ended earlier in this round of events
        if worker.unsent:
            self._flush(worker)
        if not self._hear(worker):
            # It closed its end but may still run, perhaps in a job that closed every descriptor.
            self._break(worker)

    def _hear(self, worker: WorkerProcess) -> bool:
        """Read what has come; False at its end."""
        try:
            data = worker.sock.recv(1 << 18)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        try:
            for message in worker.inbox.feed(data):
                if not worker.ready and message[0] == messages.HELLO:
                    worker.ready = True
                    worker.has_farewell = bool(message[1].get("has_farewell"))
                    self._write(worker, worker.early)
                self.listener.message(worker.number, message)
        except messages.BadFrameError:
            self._break(worker)
        return True

    def _break(self, worker: WorkerProcess) -> None:
        """A worker that cannot be understood is killed; its end is told like any other."""
        worker.broken = True
        self._unregister(worker.sock)
        worker.process.kill()
        if worker.process.pidfd < 0:
            worker.process.bury()
            self._ended(worker)

    def _output_ready(self, worker: WorkerProcess) -> None:
        if worker.number not in self._workers:
            return
        if self._has_more(worker):
            # First what it said: the end of a job makes us forget what it had printed, not what the next one did.
            self._socket_ready(worker)
        if worker.number in self._workers and not self._read_output(worker):
            self._unregister(worker.output)

    @staticmethod
    def _read_output(worker: WorkerProcess) -> bool:
        """Take in what it has printed, up to a bound, so that no job's flood keeps the engine; False at its end."""
        for _ in range(_READS_AT_ONCE):
            try:
                data = os.read(worker.output, 1 << 16)
            except BlockingIOError:
                return True
            if not data:
                return False
            worker.keep_output(data)
            pass_on(data)
        return True

    def _ended(self, worker: WorkerProcess) -> None:
        """The process is dead: hear the rest, take back the permits, and say so."""
        if worker.number not in self._workers:
            return
        worker.process.kill()  # what it left behind in its group
        if not worker.broken:
            while self._has_more(worker) and self._hear(worker) and not worker.broken:
                pass
        self._read_output(worker)
        unstarted = self._unread_permits(worker) + worker.kept_back
        code = worker.process.bury()
        output = worker.last_output()
        del self._workers[worker.number]
        self._unregister(worker.sock)
        self._unregister(worker.output)
        if worker.process.pidfd >= 0:
            self._unregister(worker.process.pidfd)
            os.close(worker.process.pidfd)
        worker.channels.close()
        self.listener.gone(worker.number, unstarted, Exit(code, output))

    @staticmethod
    def _has_more(worker: WorkerProcess) -> bool:
        return bool(select.select((worker.sock,), (), (), 0)[0])

    @staticmethod
    def _unread_permits(worker: WorkerProcess) -> list[int]:
        data = bytearray()
        with contextlib.suppress(BlockingIOError):
            while True:
                chunk = os.read(worker.channels.permits_out, _PERMITS_AT_ONCE)
                if not chunk:
                    break
                data += chunk
        return [number for (number,) in messages.PERMIT.iter_unpack(data)]

    def _write(self, worker: WorkerProcess, data: bytes | bytearray) -> None:
        worker.unsent += data
        self._flush(worker)

    def _flush(self, worker: WorkerProcess) -> None:
        try:
            while worker.unsent:
                del worker.unsent[: worker.sock.send(worker.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            worker.unsent.clear()
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.unsent else 0)
        with contextlib.suppress(KeyError):
            key = self._selector.get_key(worker.sock)
            if key.events != events:
                self._selector.modify(worker.sock, events, key.data)

    def _unregister(self, source: Any) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(source)


def _raise_oom_score(worker: WorkerProcess) -> None:
    # When memory runs out the kernel shall take a job, not the engine.
    with contextlib.suppress(OSError), open(f"/proc/{worker.pid}/oom_score_adj", "w") as file:  # noqa: PTH123
        file.write("500")


def _threads_of(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208 - no pathlib for a count
    except OSError:
        return 0
