"""One declared job: what it is called, how it is to be run, and the way of a call to text and back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from jobcard.core import keytext, limits, naming
from jobcard.core.callspec import CallSpec
from jobcard.core.codec import CallShape
from jobcard.core.nearest import nearest
from jobcard.core.rates import RateLimit, check_rate
from jobcard.core.retry import DEFAULT_BACKOFF, Backoff
from jobcard.core.settings import ISOLATIONS
from jobcard.core.unique import Unique, check_key_function, check_parameters
from jobcard.errors import ConfigError, InvalidJobError, JobcardError, SerializationError

if TYPE_CHECKING:
    from jobcard.core.codec import Codec
    from jobcard.core.context import JobContext

DEFAULT_QUEUE = "default"


class JobOptions(NamedTuple):
    """How a job is run unless the enqueue says otherwise; checked, durations in microseconds."""

    queue: str = DEFAULT_QUEUE
    priority: int = 0
    max_attempts: int = 5
    max_crashes: int = 3
    timeout: int | None = None
    memory_limit: int | None = None
    backoff: Backoff = DEFAULT_BACKOFF
    isolation: str | None = None
    """None: `async def` jobs are shared, others have a process to themselves while they run."""
    on_lost_lease: str = "kill"
    keep: int | None = None
    tags: tuple[str, ...] = ()
    unique: Unique | None = None
    concurrency_key: str | tuple[str, ...] | Callable[..., str] | None = None
    """Which jobs share its limits: names of parameters, "args", a function that gives text; None: all of its name."""
    key_limit: int | None = None
    rate: RateLimit | None = None

    @property
    def is_limited(self) -> bool:
        """Whether a limit key goes with each of its jobs."""
        return self.key_limit is not None or self.rate is not None


ON_LOST_LEASE = ("kill", "tell")
_USUAL = JobOptions()


def check_options(
    *,
    queue: str = _USUAL.queue,
    priority: int = _USUAL.priority,
    max_attempts: int = _USUAL.max_attempts,
    max_crashes: int = _USUAL.max_crashes,
    timeout: float | timedelta | None = None,
    memory_limit: int | None = None,
    backoff: Backoff | None = None,
    isolation: str | None = None,
    on_lost_lease: str = _USUAL.on_lost_lease,
    keep: float | timedelta | None = None,
    tags: Iterable[str] = _USUAL.tags,
    unique: Unique | bool | None = None,
    concurrency_key: str | tuple[str, ...] | Callable[..., str] | None = None,
    key_limit: int | None = None,
    rate: RateLimit | None = None,
) -> JobOptions:
    """The options of a declaration as users write them; `ConfigError` when one is out of bounds."""
    whole = limits.check_whole
    if backoff is not None and not isinstance(backoff, Backoff):
        raise ConfigError(f"backoff must be a Backoff, for example Backoff.fixed(5), not {type(backoff).__name__}")
    if isolation is not None and isolation not in ISOLATIONS:
        raise ConfigError(f"isolation must be one of {', '.join(ISOLATIONS)}")
    if on_lost_lease not in ON_LOST_LEASE:
        raise ConfigError(f"on_lost_lease must be one of {', '.join(ON_LOST_LEASE)}")
    if concurrency_key is not None and key_limit is None and rate is None:
        key_limit = 1
    return JobOptions(
        queue=limits.check_name(queue, "queue", error=ConfigError),
        priority=whole(priority, "priority", limits.MIN_PRIORITY, limits.MAX_PRIORITY, error=ConfigError),
        max_attempts=whole(max_attempts, "max_attempts", 1, limits.MAX_ATTEMPTS, error=ConfigError),
        max_crashes=whole(max_crashes, "max_crashes", 1, limits.MAX_CRASHES, error=ConfigError),
        timeout=check_timeout(timeout, error=ConfigError),
        memory_limit=None
        if memory_limit is None
        else whole(memory_limit, "memory_limit", 1 << 20, 1 << 50, error=ConfigError),
        backoff=backoff or _USUAL.backoff,
        isolation=isolation,
        on_lost_lease=on_lost_lease,
        keep=check_keep(keep, error=ConfigError),
        tags=check_tags(tags, error=ConfigError),
        unique=check_unique(unique, error=ConfigError),
        concurrency_key=_check_concurrency_key(concurrency_key),
        key_limit=None
        if key_limit is None
        else whole(key_limit, "key_limit", 1, limits.MAX_CONCURRENCY, error=ConfigError),
        rate=check_rate(rate),
    )


def check_timeout(value: float | timedelta | None, *, error: type[JobcardError]) -> int | None:
    """How long one try may take, a millisecond to ten years; None: as long as it likes."""
    return (
        None
        if value is None
        else limits.check_duration(value, "timeout", limits.MIN_TIMEOUT, limits.MAX_DELAY, error=error)
    )


def check_keep(value: float | timedelta | None, *, error: type[JobcardError]) -> int | None:
    """How long an ended job is kept; None: as the engine's settings say."""
    return None if value is None else limits.check_duration(value, "keep", 0, limits.MAX_DELAY, error=error)


def check_unique(value: Unique | bool | None, *, error: type[JobcardError]) -> Unique | None:
    """What makes a job the same as another; True: its name alone, None and False: nothing does."""
    if value is None or value is False:
        return None
    if value is True:
        return Unique()
    if not isinstance(value, Unique):
        raise error(f'unique must be True or a Unique, for example Unique(by=("to",)), not {type(value).__name__}')
    return value


def _check_concurrency_key(value: Any) -> str | tuple[str, ...] | Callable[..., str] | None:
    if not callable(value):
        return check_parameters(value, "concurrency_key")
    check_key_function(value, "concurrency_key")
    return value  # type: ignore[no-any-return]


def check_tags(value: Iterable[str], *, error: type[JobcardError]) -> tuple[str, ...]:
    """At most ten names, each once."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise error(f"tags must be a list of names, not {type(value).__name__}")
    tags = tuple(dict.fromkeys(limits.check_name(tag, "tag", error=error) for tag in value))
    if len(tags) > limits.MAX_TAGS:
        raise error(f"tags: at most {limits.MAX_TAGS}, these are {len(tags)}")
    return tags


class JobDefinition:
    """A job as code declares it. Safe to use from several threads."""

    def __init__(
        self, target: Callable[..., Any], options: JobOptions, *, name: str | None = None, aliases: Iterable[str] = ()
    ) -> None:
        """target: a function, or a class whose `run` is the job and whose constructor takes what `with_` gives."""
        if not callable(target):
            raise ConfigError(f"a job is a function or a class, not {type(target).__name__}")
        self.target: Any = target
        self.options = options
        self.module: str = getattr(target, "__module__", None) or ""
        qualname: str = getattr(target, "__qualname__", "")
        if name is None and (not qualname or qualname.endswith("<lambda>")):
            raise ConfigError("a job without a name of its own needs name=…")
        self.source = f"{naming.module_name(self.module)}.{qualname}"
        self.name = limits.check_name(
            naming.job_name(self.module, qualname) if name is None else name, "job", error=ConfigError
        )
        if isinstance(aliases, str):
            raise ConfigError("aliases must be a list of names, not one text")
        self.aliases = tuple(limits.check_name(alias, "alias", error=ConfigError) for alias in aliases)
        self.is_class = inspect.isclass(target)
        run = self._find_run()
        self.is_async = inspect.iscoroutinefunction(run)
        self.isolation = options.isolation or ("shared" if self.is_async else "process")
        self._run = CallSpec(run, name=self.name, skip=1 if self.is_class else 0)
        self._init = CallSpec(target, name=self.name) if self.is_class else None
        self.check_call = self._run.check
        self._check_keys()

    @cached_property
    def _run_shape(self) -> CallShape:
        return CallShape.of(self._find_run(), skip=self._run.skip)

    @cached_property
    def _init_shape(self) -> CallShape:
        # From the class: its own constructor may be inherited, or made by a dataclass.
        return CallShape.of(self.target.__init__, skip=1)

    def _find_run(self) -> Callable[..., Any]:
        run: Callable[..., Any] | None = getattr(self.target, "run", None) if self.is_class else self.target
        if not callable(run):
            raise ConfigError(f"job {self.name}: a class job has a method `run`")
        if inspect.isgeneratorfunction(run) or inspect.isasyncgenfunction(run):
            raise ConfigError(f"job {self.name}: a generator is never run to its end; return a list instead")
        return run

    # -- in the client

    @property
    def parameters(self) -> tuple[str, ...]:
        """What the job's arguments are called, in order."""
        return self._run.names

    @property
    def init_parameters(self) -> tuple[str, ...]:
        """What a class job's constructor calls its arguments, in order; () for a function."""
        return () if self._init is None else self._init.names

    def check_init(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """`InvalidJobError` showing the signature unless the class can be constructed so."""
        if self._init is not None:
            self._init.check(args, kwargs)

    def dump_call(self, codec: Codec, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[str, str]:
        """A checked call as stored text; `SerializationError` when an argument cannot be stored."""
        return codec.dump_call(args, kwargs, self._run_shape)

    def dump_init(self, codec: Codec, args: Sequence[Any], kwargs: dict[str, Any]) -> str | None:
        """A class job's checked constructor arguments as stored text; None for a function."""
        if self._init is None:
            return None
        args_text, kwargs_text = codec.dump_call(args, kwargs, self._init_shape)
        return f'{{"args":{args_text},"kwargs":{kwargs_text}}}'

    def plain_call(self, codec: Codec, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, str]:
        """A checked call as text that is the same however it was written: to compare, not to store."""
        return _plain(codec, self._run, self._run_shape, args, kwargs)

    def plain_stored_call(self, codec: Codec, args_text: str, kwargs_text: str) -> tuple[str, str]:
        """The same of a stored call; errors as `prepare`."""
        args, kwargs = codec.load_call(args_text, kwargs_text, self._run_shape)
        self.check_call(args, kwargs)
        return self.plain_call(codec, args, kwargs)

    def plain_stored_init(self, codec: Codec, text: str | None) -> tuple[str, str] | None:
        """The same of a class job's stored constructor arguments; None for a function."""
        return (
            None if self._init is None else _plain(codec, self._init, self._init_shape, *self._load_init(codec, text))
        )

    def _check_keys(self) -> None:
        """`ConfigError` unless the job has the parameters that its keys are made of."""
        if self.options.unique is not None:
            self.check_parameters(self.options.unique.by, "unique", error=ConfigError)
        if not callable(self.options.concurrency_key):
            self.check_parameters(self.options.concurrency_key, "concurrency_key", error=ConfigError)

    def check_parameters(
        self, by: str | tuple[str, ...] | None, what: str, *, error: type[JobcardError] = InvalidJobError
    ) -> None:
        """Refuse names that neither the job's parameters nor those of its constructor have."""
        if by is None or by == "args":
            return
        known = {*self._run.names, *(() if self._init is None else self._init.names)}
        for name in by:
            if name not in known:
                near = nearest(name, known)
                hint = f"; did you mean {near!r}?" if near else ""
                raise error(f"{what}: job {self.name} has no parameter {name!r}{hint}")

    def say(
        self, codec: Codec, by: str | tuple[str, ...], init: str | None, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> str:
        """Text that is equal where these arguments of a checked call are, however it was written.

        by: names of parameters, or "args" for all; of a class job those of its constructor are among them.
        """
        said = [keytext.of_arguments(codec, self._run, self._run_shape, args, kwargs, by)]
        if self._init is not None:
            said.append(keytext.of_arguments(codec, self._init, self._init_shape, *self._load_init(codec, init), by))
        return keytext.joined(said)

    def load_result(self, codec: Codec, text: str | None) -> Any:
        """A stored result, rebuilt by the return annotation."""
        return None if text is None else codec.loads(text, what="the result", shape=self._run_shape.result)

    # -- in the worker

    def prepare(
        self,
        codec: Codec,
        init_text: str | None,
        args_text: str,
        kwargs_text: str,
        context: JobContext,
        *,
        in_loop: bool = False,
    ) -> Callable[[], Any]:
        """The stored call, ready to run: decoded, rebuilt by the annotations and compared with the signature.

        `SerializationError` or `InvalidJobError` when the stored call does not fit the code: trying again is no use.
        A class job is constructed when the call runs; an `async def` job gets an event loop of its own, or with
        `in_loop` the call gives its coroutine.
        """
        args, kwargs = codec.load_call(args_text, kwargs_text, self._run_shape)
        self.check_call(args, kwargs)
        if self._run.takes_context:
            args = [context, *args]
        target = self.target
        if self._init is None:
            call: Callable[[], Any] = partial(target, *args, **kwargs)
        else:
            init_args, init_kwargs = self._load_init(codec, init_text)

            def call() -> Any:
                return target(*init_args, **init_kwargs).run(*args, **kwargs)

        return partial(_run_coroutine, call) if self.is_async and not in_loop else call

    def _load_init(self, codec: Codec, text: str | None) -> tuple[list[Any], dict[str, Any]]:
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        if text is not None:
            args, kwargs = codec.load_parts(text, self._init_shape)
        self.check_init(args, kwargs)
        return args, kwargs

    def dump_result(self, codec: Codec, value: Any) -> str:
        """What the job returned as stored text; `SerializationError` when it cannot be stored."""
        return codec.dumps(value, what="the result", limit=limits.MAX_RESULT, shape=self._run_shape.result)


def _plain(
    codec: Codec, spec: CallSpec, shape: CallShape, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[str, str]:
    try:
        return codec.dump_call(*spec.in_one_form(args, kwargs, defaults=True), shape)
    except SerializationError:  # a default that only the function itself ever sees
        return codec.dump_call(*spec.in_one_form(args, kwargs, defaults=False), shape)


def _run_coroutine(call: Callable[[], Any]) -> Any:
    # Here, because asyncio takes 70 ms to import and most jobs never need it.
    import asyncio

    return asyncio.run(call())
