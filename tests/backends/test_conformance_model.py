"""The model store passes the suite that other stores are compared with it by."""

import inspect
from collections.abc import Iterator

import pytest
from hypothesis import settings

from jobcard.backends.base import Filter, RecordKind
from jobcard.conformance import CHECKS, BackendSuite, Harness, Shelf, check_seal, factory
from jobcard.conformance.drawing import CI
from jobcard.conformance.every_kind import everything_in
from jobcard.conformance.model import ModelBackend, ModelStore, open_model, spoil_in_model
from jobcard.core.clock import FrozenClock


class TestModel(BackendSuite):
    histories = settings(CI, max_examples=10)  # compared with itself: only the machine can be wrong

    @pytest.fixture
    def harness(self) -> Iterator[Harness]:
        harness = Harness(lambda clock: open_model(ModelStore(clock)), spoil=spoil_in_model)
        yield harness
        harness.close()


class TestShelf:
    """Stores that several checks have one after the other."""

    @pytest.fixture
    def stores(self) -> dict[str, ModelStore]:
        """By the names the shelf gave."""
        return {}

    @pytest.fixture
    def shelf(self, stores: dict[str, ModelStore]) -> Shelf:
        return Shelf(lambda name, clock: ModelBackend(stores.setdefault(name, ModelStore(clock))))

    def harness(self, shelf: Shelf) -> Harness:
        return Harness(lambda clock: open_model(ModelStore(clock)), spoil=spoil_in_model, shelf=shelf)

    def test_the_next_check_finds_an_empty_store(self, shelf: Shelf, stores: dict[str, ModelStore]) -> None:
        """Jobs, records and a seal of the one before are gone."""
        first = self.harness(shelf)
        backend = first.ready()
        factory.enqueue(backend)
        backend.write_record(RecordKind.QUEUE, "default", "{}")
        backend.seal("elsewhere")
        first.close()
        second = self.harness(shelf)
        backend = second.ready()
        assert len(stores) == 1
        assert (backend.count(Filter()), backend.read_records(RecordKind.QUEUE), backend.facts().seal) == ({}, [], None)
        factory.enqueue(backend)
        second.close()

    def test_nobody_has_the_store_of_another(self, shelf: Shelf, stores: dict[str, ModelStore]) -> None:
        """Two that are in use at once are two stores."""
        one, other = self.harness(shelf), self.harness(shelf)
        factory.enqueue(one.ready())
        assert other.ready().count(Filter()) == {}
        assert len(stores) == 2

    def test_who_wants_no_schema_gets_a_new_store(self, shelf: Shelf, stores: dict[str, ModelStore]) -> None:
        """Migrations are checked on stores that have none."""
        self.harness(shelf).ready()
        assert self.harness(shelf).open().migrate() != []
        assert len(stores) == 1

    def test_a_damaged_store_is_not_used_again(self, shelf: Shelf, stores: dict[str, ModelStore]) -> None:
        """What a check spoils may be more than a job."""
        first = self.harness(shelf)
        first.spoil(factory.enqueue(first.ready()))
        first.close()
        self.harness(shelf).ready()
        assert len(stores) == 2


CHANGING_NOTHING = {"enqueue one that is there", "enqueue one whose key is taken", "put as it is"}
"""Writes that a sealed store refuses although they would find everything as they want it."""


def test_each_write_that_a_seal_stops_has_something_to_do() -> None:
    """With what it asks for of the stock, and with no more: else nobody could tell that it was stopped."""
    idle = set()
    for verb, forms in check_seal.WRITES.items():
        for form, write in forms.items():
            asked: list[str] = []
            for _ in range(2):
                clock = FrozenClock()
                backend = open_model(ModelStore(clock))()
                backend.migrate()
                stock = check_seal.Stock(backend, clock)
                asked = [name for name in asked if getattr(stock, name) is not None]
                before = everything_in(backend)
                write(backend, stock)
                asked = [name for name in vars(stock) if name in vars(check_seal.Stock)]
            if everything_in(backend) == before:
                idle.add(f"{verb} {form}")
    assert idle == CHANGING_NOTHING


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_says_its_rule(name: str) -> None:
    """Its docstring is a sentence or two that the author of a store can read as the contract."""
    rule = inspect.getdoc(CHECKS[name]) or ""
    assert len(rule.split()) >= 4
    assert rule[0].isupper() or rule[0] == "`"
    assert rule[-1] == "."
