"""The keys of a job, made of its arguments where it is enqueued: for being unique, and for sharing limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from jobcard.core import keytext, unique
from jobcard.core.unique import Unique
from jobcard.errors import InvalidJobError

if TYPE_CHECKING:
    from jobcard.client.options import Template
    from jobcard.core.codec import Codec
    from jobcard.core.definition import JobDefinition
    from jobcard.core.job import NewJob
    from jobcard.engine.store_clock import StoreClock

Args = tuple[Any, ...]
Kwargs = Mapping[str, Any]


class Keys:
    """Gives jobs their keys; any thread may use it."""

    def __init__(self, codec: Codec, clock: StoreClock) -> None:
        self._codec = codec
        self.clock = clock

    def needs_time(self, template: Template) -> bool:
        """Whether it takes a question to the store to give such a job its keys."""
        return template.unique is not None and not template.unique.while_alive and not self.clock.is_known

    def give(
        self, new: NewJob, definition: JobDefinition | None, template: Template, args: Args, kwargs: Kwargs
    ) -> NewJob:
        """The job with the keys that its declaration and its enqueue ask for.

        definition: None where this code lacks the function. `InvalidJobError` when a key cannot be made.
        """
        if template.unique is not None:
            new = self._uniquely(new, definition, template.unique, args, kwargs)
        if definition is not None and template.declared.is_limited:
            new = new._replace(limit_key=self._limit_key(new, definition, args, kwargs))
        return new

    def _uniquely(
        self, new: NewJob, definition: JobDefinition | None, rule: Unique, args: Args, kwargs: Kwargs
    ) -> NewJob:
        if rule.key is not None:
            said = _call(rule.key, new.name, "key", args, kwargs)
        else:
            said = self._say(new, definition, rule.by, args, kwargs)
        key = unique.make_key(new.name, said)
        if rule.while_alive:
            return new._replace(unique_key=key)
        due = self.clock.now() + new.delay if new.at is None else new.at
        start, until = rule.window(due)
        return new._replace(once_key=unique.once_key(key, start), once_until=until)

    def _limit_key(self, new: NewJob, definition: JobDefinition, args: Args, kwargs: Kwargs) -> str:
        by = definition.options.concurrency_key
        if callable(by):
            said = _call(by, new.name, "concurrency_key", args, kwargs)
            if not said:
                raise InvalidJobError(f"job {new.name}: its concurrency_key returned empty text")
            return unique.limit_key(said)
        return unique.make_key(new.name, self._say(new, definition, by, args, kwargs))

    def _say(
        self,
        new: NewJob,
        definition: JobDefinition | None,
        by: str | tuple[str, ...] | None,
        args: Args,
        kwargs: Kwargs,
    ) -> str:
        if by is None:
            return ""
        if definition is not None:
            definition.check_parameters(by, "unique")
            return definition.say(self._codec, by, new.init, args, kwargs)
        if by == "args":
            return keytext.joined([keytext.in_one_order(text) for text in (new.args, new.kwargs)])
        raise InvalidJobError(
            f'unique: the parameters of job {new.name} are not known here; use "args" or a key function'
        )


def _call(function: Callable[..., str], name: str, what: str, args: Args, kwargs: Kwargs) -> str:
    try:
        said = function(*args, **kwargs)
    except Exception as error:
        raise InvalidJobError(f"job {name}: its {what} function raised {type(error).__name__}") from error
    if type(said) is not str:
        raise InvalidJobError(f"job {name}: its {what} function must return text, not {type(said).__name__}")
    return said
