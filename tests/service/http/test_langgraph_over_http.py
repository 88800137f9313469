"""What LangGraph's store promises holds with the database of a service."""

import pytest

pytest.importorskip("langgraph.store.base", reason="needs the extra [langgraph]")

from evomem_integrations.langgraph import EvoMemStore
from tests.integrations.langgraph import test_concurrency, test_store, test_ttl
from tests.service.http.running import borrowed

pytestmark = pytest.mark.enable_socket  # to a service of this process, on loopback

store, facts, make = test_store.store, test_store.facts, test_ttl.make
LOOK_INSIDE = (
    "test_a_get_after_a_search_takes_one_statement_and_sees_what_others_wrote",
    "test_a_put_that_replaces_takes_two_transactions_and_few_statements",
    "test_a_refresh_reads_no_turn_again",
    "test_a_search_changes_no_log",
    "test_a_search_of_many_namespaces_takes_few_statements_and_none_twice",
    "test_each_namespace_is_searched_with_the_state_of_its_own_log",
    "test_two_processes_write_one_namespace",
    "test_items_without_an_index_are_not_embedded",
)
"""Tests that look at the database itself."""
OF_VALUES = (
    "test_a_value_may_be_of_any_size",
    "test_an_unknown_operator_is_refused_at_every_level_and_the_known_ones_are_named",
    "test_dates_texts_and_numbers_are_in_the_order_that_sqlite_store_has",
    "test_filters",
    "test_namespaces_are_listed_as_by_langgraphs_own_store",
)
"""Tests with many cases of what happens in the store alone."""
for module in (test_store, test_ttl, test_concurrency):
    globals().update(borrowed(module, without=[*LOOK_INSIDE, *OF_VALUES]))


@pytest.fixture
def requests(db, monkeypatch):
    """The paths that a client asks for."""
    made = []
    send = db._caller._send

    def note(call):
        made.append(call.path)
        return send(call)

    monkeypatch.setattr(db._caller, "_send", note)
    return made


def test_an_operation_is_one_request(db, requests):
    store = EvoMemStore(db, index={"fields": ["text"]})
    for user in ("alice", "bob"):
        store.put(("users", user), "home", {"text": f"Here lives {user}."})
    assert len(requests) == 2
    for ask in (
        lambda: store.get(("users", "bob"), "home"),
        lambda: store.search(("users",), query="Where is the home?"),  # all of it is new here
        lambda: store.search(("users",), query="Where is the home?"),
        lambda: store.search(("users",)),
        lambda: store.list_namespaces(),
    ):
        requests.clear()
        assert ask()
        assert len(requests) == 1
    requests.clear()
    store.put(("users", "bob"), "home", {"text": "Bob moved."})  # what it replaces is looked at
    assert len(requests) == 2


def test_a_value_may_be_larger_than_one_line_of_a_request(db):
    store = EvoMemStore(db)
    value = {"text": "word " * 1_000_000}  # 5 MB; a line has 4 MiB at most
    store.put(("files",), "long", value, index=False)
    (item,) = store.search(("files",))
    assert item.value == value
    assert store.get(("files",), "long") is not None
