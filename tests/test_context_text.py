"""What a context promises, for any hits, any budget and any counter of tokens."""

from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from evomem.errors import QueryError
from evomem.records import Hit, Record, Turn
from evomem.search.context_text import fit

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
COUNTERS = {
    "words": lambda text: len(text.split()),
    "characters": len,
    "bytes": lambda text: len(text.encode()),
    "pieces of four": lambda text: -(-len(text) // 4),
    "more together": lambda text: len(text.splitlines()) ** 2 + len(text.split()),
}


@st.composite
def hits(draw):
    texts = draw(st.lists(st.text("ab é猫.\n", min_size=1, max_size=80), min_size=1, max_size=6))
    days = draw(st.permutations(range(len(texts))))
    return [
        Hit(
            Record(n + 1, Turn(user=f"x{text}", id=f"t{n}", time=START + timedelta(day)), START),
            1.0,
            {},
        )
        for n, (text, day) in enumerate(zip(texts, days, strict=True))
    ]


@given(hits(), st.integers(0, 120), st.sampled_from(sorted(COUNTERS)), st.text("ab 猫", max_size=8))
def test_a_context_shows_the_best_hit_within_the_budget_in_order_or_says_that_nothing_fits(
    found, budget, counter, query
):
    count = COUNTERS[counter]
    try:
        context = fit(found, query, budget, count, timezone.utc)
    except QueryError:
        assert count(f"[2026-01-01 00:00 UTC, id t0] User: {found[0].text[6:]}") > budget - 1
        return
    assert found[0].record.id in context.ids
    assert count(context) <= budget
    times = {hit.record.id: hit.record.time for hit in found}
    shown = [times[name] for name in context.ids]
    assert shown == sorted(shown)
    for name in context.ids:
        assert f"[{times[name]:%Y-%m-%d %H:%M} UTC, id {name}] " in context
