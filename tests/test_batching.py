"""Many threads, one encoder: what they get, in which order, and what happens when something fails."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

import evomem
from evomem import HashEncoder, Turn
from evomem.batching import ASKING, LEAST, SHORTER, Batcher, shared
from evomem.errors import EncoderError, StoreError
from evomem.ordered_executor import OrderedExecutor
from evomem.state import State


class Together(HashEncoder):
    """The hashing encoder for several memories at once; notes what it was asked together."""

    batch_tokens = 1000
    parallel = False

    def __init__(self):
        super().__init__()
        self.calls = []
        self.gate = threading.Event()
        self.gate.set()
        self.inside = threading.Event()

    def measure(self, turn):
        return self.count_tokens(turn.user)

    def read_batch(self, jobs):
        self.pause("read", [[turn.user for turn in turns] for _, turns in jobs])
        if any("poison" in turn.user for _, turns in jobs for turn in turns):
            raise EncoderError("there is poison in it")
        return [self.read(state, turns) for state, turns in jobs]

    def embed_batch(self, jobs):
        self.pause("ask", [list(queries) for _, queries in jobs])
        return [self.embed_queries(state, queries) for state, queries in jobs]

    def pause(self, kind, what):
        self.calls.append((kind, what))
        self.inside.set()
        assert self.gate.wait(30)


class Small(Together):
    """One that has memory for so many turns only."""

    limit = 4

    def read_batch(self, jobs):
        if sum(len(turns) for _, turns in jobs) > self.limit:
            raise MemoryError("too many")
        return super().read_batch(jobs)


@pytest.fixture
def encoder():
    return Together()


@pytest.fixture
def batcher(encoder):
    return Batcher(encoder)


START: State[Turn] = State.empty(HashEncoder().spec)


def gathered(batcher, encoder, *calls):
    """Start `calls` one after another while a first pass is held up; return their futures."""
    encoder.gate.clear()
    encoder.inside.clear()
    pool = ThreadPoolExecutor(len(calls) + 1)
    first = pool.submit(batcher.read, START, [Turn(user="first")])
    assert encoder.inside.wait(30)
    futures = []
    for call in calls:
        waiting = len(batcher._asks) + len(batcher._reads)
        futures.append(pool.submit(call))
        while len(batcher._asks) + len(batcher._reads) == waiting:
            threading.Event().wait(0.001)
    encoder.gate.set()
    pool.shutdown()
    first.result()
    return futures


def reading(batcher, *texts):
    return lambda: batcher.read(START, [Turn(user=text) for text in texts])


def asking(batcher, text):
    return lambda: batcher.embed_queries(START, [text])


def same(vectors, texts):
    want = HashEncoder().read(START, [Turn(user=text) for text in texts])
    return all(
        np.array_equal(a.embedding, b.embedding) and np.array_equal(a.latents, b.latents)
        for a, b in zip(vectors, want, strict=True)
    )


def test_a_single_caller_is_served_at_once_on_its_own_thread(batcher, encoder):
    me, seen = threading.get_ident(), []
    encoder.pause = lambda *_: seen.append(threading.get_ident())
    assert same(batcher.read(START, [Turn(user="a"), Turn(user="b")]), ["a", "b"])
    assert len(batcher.embed_queries(START, ["a"])) == 1
    assert seen == [me, me]


def test_requests_that_wait_for_a_pass_share_the_next_one_queries_first(batcher, encoder):
    one, asked, two, more = gathered(
        batcher, encoder,
        reading(batcher, "a", "b"), asking(batcher, "who?"), reading(batcher, "c"),
        asking(batcher, "where?"),
    )  # fmt: skip
    assert encoder.calls == [
        ("read", [["first"]]),
        ("ask", [["who?"], ["where?"]]),
        ("read", [["a", "b"], ["c"]]),
    ]
    assert same(one.result(), ["a", "b"])
    assert same(two.result(), ["c"])
    for future, text in ((asked, "who?"), (more, "where?")):
        assert np.array_equal(future.result(), HashEncoder().embed_queries(START, [text]))


def test_queries_and_turns_take_turns_so_that_no_turn_starves(batcher, encoder):
    """While a pass of queries computes, the next query arrives, five times in a row."""
    pool = ThreadPoolExecutor(8)
    more = iter(["q1", "q2", "q3", "q4", "q5"])
    together = encoder.embed_batch

    def embed_while_another_asks(jobs):
        if (text := next(more, None)) is not None:
            pool.submit(asking(batcher, text))
            while not batcher._asks:
                threading.Event().wait(0.001)
        return together(jobs)

    encoder.embed_batch = embed_while_another_asks
    gathered(batcher, encoder, asking(batcher, "q0"), reading(batcher, "a"))
    pool.shutdown()
    assert encoder.calls[:4] == [
        ("read", [["first"]]),
        ("ask", [["q0"]]),
        ("read", [["a"]]),
        ("ask", [["q1"]]),
    ]


def test_queries_do_not_wait_for_turns_where_the_encoder_does_both_at_once(encoder):
    encoder.parallel = True
    batcher = Batcher(encoder)
    hold = encoder.pause
    encoder.pause = lambda kind, what: hold(kind, what) if kind == "read" else None
    encoder.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        turns = pool.submit(reading(batcher, "a", "b"))
        assert encoder.inside.wait(30)
        for text in ("who?", "where?"):
            asked = pool.submit(asking(batcher, text)).result(30)
            assert np.array_equal(asked, HashEncoder().embed_queries(START, [text]))
        assert not turns.done()
        encoder.gate.set()
        assert same(turns.result(), ["a", "b"])


def test_closing_waits_for_passes_of_queries_and_of_turns(encoder):
    encoder.parallel = True
    batcher = Batcher(encoder)
    encoder.gate.clear()
    with ThreadPoolExecutor(3) as pool:
        turns, asked = pool.submit(reading(batcher, "a")), pool.submit(asking(batcher, "q"))
        while len(encoder.calls) < 2:
            threading.Event().wait(0.001)
        closing = pool.submit(batcher.close)
        while not batcher._closed:
            threading.Event().wait(0.001)
        assert not closing.done()
        encoder.gate.set()
        closing.result(30)
        assert same(turns.result(), ["a"])
        assert len(asked.result()) == 1
    with pytest.raises(StoreError, match="closed"):
        batcher.embed_queries(START, ["a"])


def test_a_pass_holds_so_many_tokens_and_every_memory_an_equal_share(batcher, encoder):
    batcher._tokens = 8
    long = [f"long {i}" for i in range(10)]  # two words each
    futures = gathered(batcher, encoder, reading(batcher, *long), reading(batcher, "x", "y"))
    passes = [jobs for kind, jobs in encoder.calls if kind == "read"][1:]
    assert passes[0] == [long[:2], ["x", "y"]]
    assert all(sum(len(text.split()) for job in jobs for text in job) <= 8 for jobs in passes)
    assert [text for jobs in passes for job in jobs for text in job if "l" in text] == long
    assert same(futures[0].result(), long)


def test_a_pass_that_is_full_takes_no_further_request(batcher, encoder):
    batcher._tokens = 4
    gathered(batcher, encoder, *(reading(batcher, f"text {n}") for n in range(3)))
    assert [len(jobs) for _, jobs in encoder.calls[1:]] == [2, 1]


def test_passes_of_turns_are_shorter_while_somebody_asks(batcher, encoder):
    batcher._tokens = 4 * SHORTER
    two = ["one two", "three four", "five six"]  # a pass of four tokens holds two of them
    gathered(batcher, encoder, asking(batcher, "q"), reading(batcher, *two))
    assert [call for call in encoder.calls if call[0] == "read"][1:] == [
        ("read", [two[:2]]),
        ("read", [two[2:]]),
    ]
    for _ in range(ASKING):
        batcher.read(START, [Turn(user="long after")])
    encoder.calls.clear()
    gathered(batcher, encoder, reading(batcher, *two))
    assert encoder.calls[1:] == [("read", [two])]


def test_an_error_is_raised_where_it_belongs_and_nowhere_else(batcher, encoder):
    good, bad, fine = gathered(
        batcher, encoder,
        reading(batcher, "a"), reading(batcher, "b", "poison"), reading(batcher, "c"),
    )  # fmt: skip
    assert same(good.result(), ["a"])
    assert same(fine.result(), ["c"])
    with pytest.raises(EncoderError, match="poison"):
        bad.result()
    assert same(batcher.read(START, [Turn(user="later")]), ["later"])


def test_out_of_memory_halves_the_batch_and_continues():
    encoder = Small()
    batcher = Batcher(encoder)
    texts = [[f"{name}{i}" for i in range(6)] for name in "abc"]
    futures = gathered(batcher, encoder, *(reading(batcher, *text) for text in texts))
    for future, text in zip(futures, texts, strict=True):
        assert same(future.result(), text)
    assert LEAST <= batcher._tokens < encoder.batch_tokens


def test_a_request_that_is_alone_is_halved_down_to_one_turn():
    encoder = Small()
    encoder.limit = 1
    assert same(Batcher(encoder).read(START, [Turn(user="a"), Turn(user="b")]), ["a", "b"])
    assert encoder.calls == [("read", [["a"]]), ("read", [["b"]])]


def test_a_turn_that_no_memory_suffices_for_is_an_error_of_its_own_caller():
    encoder = Small()
    encoder.limit = 0
    with pytest.raises(MemoryError):
        Batcher(encoder).read(START, [Turn(user="a"), Turn(user="b")])


def test_an_interrupted_caller_leaves_and_the_others_continue(batcher, encoder):
    """As Ctrl-C does it: once in the thread that computes, once in one that waits."""
    interrupt = iter([KeyboardInterrupt])

    def pause(kind, what):
        encoder.calls.append((kind, what))
        encoder.inside.set()
        assert encoder.gate.wait(30)
        for error in interrupt:
            raise error

    encoder.pause = pause
    encoder.gate.clear()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(reading(batcher, "a"))
        assert encoder.inside.wait(30)
        second = pool.submit(reading(batcher, "b"))
        while not batcher._reads:
            threading.Event().wait(0.001)
        encoder.gate.set()
        assert same(second.result(), ["b"])
        with pytest.raises(KeyboardInterrupt):
            first.result()
    assert same(batcher.read(START, [Turn(user="c")]), ["c"])
    assert encoder.calls == [("read", [[text]]) for text in "abc"]  # "a" is not read in vain


def test_closing_finishes_what_is_inside_and_refuses_what_comes_later(batcher, encoder):
    futures = gathered(batcher, encoder, *(reading(batcher, str(i)) for i in range(5)))
    batcher.close()
    assert all(future.done() for future in futures)
    with pytest.raises(StoreError, match="closed"):
        batcher.read(START, [Turn(user="a")])


def test_no_more_requests_to_read_are_inside_than_allowed_and_queries_pass_them(encoder):
    batcher = Batcher(encoder, waiting=2)
    encoder.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        reads = [pool.submit(reading(batcher, str(i))) for i in range(6)]
        assert encoder.inside.wait(30)
        asked = pool.submit(asking(batcher, "who?"))
        while not batcher._asks:
            threading.Event().wait(0.001)
        assert len(batcher._reads) <= 1  # and one is being done
        encoder.gate.set()
        assert len(asked.result()) == 1
        assert all(same(future.result(), [str(i)]) for i, future in enumerate(reads))
    kinds = [kind for kind, _ in encoder.calls]
    assert kinds.index("ask") <= 1


def test_an_encoder_that_reads_one_memory_at_a_time_is_left_as_it_is():
    plain = HashEncoder()
    assert shared(plain) is plain


def test_many_threads_lose_and_reorder_nothing(tmp_path):
    path = str(tmp_path / "a.db")
    with evomem.open(path, Together(), synchronous="NORMAL", embeddings="float32") as db:
        memories = [db.memory(f"m{i}") for i in range(8)]

        def talk(i):
            for n in range(6):
                memories[i % 8].add(f"turn {n} of thread {i}", id=f"{i}-{n}")
                memories[i % 8].search(f"turn {n}", k=1)

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(talk, range(16)))
        assert db.verify() == []
        for i, memory in enumerate(memories):
            for thread in (i, i + 8):
                own = [r.id for r in memory.history() if r.id.startswith(f"{thread}-")]
                assert own == [f"{thread}-{n}" for n in range(6)]
    plain = HashEncoder()
    with evomem.open(str(tmp_path / "a.db"), plain) as db:  # and each was read in its own order
        turns = [record.turn for record in db.memory("m3").history()]
        rows = db._engine.store.rows(db.memory("m3")._view(), after=0)
        for row, want in zip(rows, plain.read(START, turns), strict=True):
            assert np.array_equal(row.reading.embedding, want.embedding)


def histories(count):
    for i in range(count):
        yield ("bulk", f"m{i % 5}"), [Turn(user=f"fact {i} {n}", id=f"{i}-{n}") for n in range(70)]


def test_many_histories_are_read_together_and_each_equals_one_read_alone(tmp_path):
    encoder = Together()
    with evomem.open(str(tmp_path / "a.db"), encoder) as db, ThreadPoolExecutor(1) as pool:
        reader = db._engine.reader
        assert isinstance(reader, Batcher)
        encoder.gate.clear()  # the first of three workers is held up until the others wait for it
        bulk = pool.submit(db.add_many, histories(10), workers=3)
        while len(reader._reads) < 2:
            threading.Event().wait(0.001)
        encoder.gate.set()
        assert bulk.result() == 700  # two histories to a memory, in order
        assert max(len(jobs) for _, jobs in encoder.calls) >= 2
        assert db.verify() == []
        for i, namespace in enumerate(db.memories("bulk")):
            turns = [record.turn for record in db.memory(*namespace).history()]
            assert [t.id for t in turns] == [f"{h}-{n}" for h in (i, i + 5) for n in range(70)]


def test_an_error_in_one_history_stops_the_bulk_and_leaves_nothing_half_written(db):
    bad = [(("a",), [Turn(user="fine")]), (("b",), ["no turn"]), (("c",), [Turn(user="fine")])]
    with pytest.raises(evomem.errors.TurnError):
        db.add_many(bad, workers=1)
    assert db.memories() == [("a",)]


class Slow(HashEncoder):
    def read(self, state, turns):
        threading.Event().wait(0.05)
        return super().read(state, turns)


def test_an_interrupted_bulk_stops_after_the_current_batch(tmp_path):
    def endless():
        yield ("a",), [Turn(user=f"fact {n}") for n in range(64 * 40)]
        raise KeyboardInterrupt

    with evomem.open(str(tmp_path / "a.db"), Slow()) as db:
        with pytest.raises(KeyboardInterrupt):
            db.add_many(endless())
        assert len(db.memory("a")) < 64 * 40
        assert len(db.memory("a")) % 64 == 0
        assert db.verify() == []


def test_progress_counts_the_turns_of_all_histories(db):
    seen: list[int] = []
    assert db.add_many(histories(4), progress=seen.append) == 280
    assert seen == sorted(seen)
    assert seen[-1] == 280


async def test_writes_of_one_memory_keep_their_order_and_of_others_go_beside_them(tmp_path):
    encoder = Together()
    with evomem.open(str(tmp_path / "a.db"), encoder) as db:
        encoder.gate.clear()
        slow = [asyncio.create_task(db.memory("a").aadd(f"a{i}")) for i in range(3)]
        while not encoder.inside.is_set():
            await asyncio.sleep(0.001)
        beside = [asyncio.create_task(db.memory(f"b{i}").aadd("b")) for i in range(20)]
        reader = db._engine.reader
        assert isinstance(reader, Batcher)
        while len(reader._reads) < 20:
            await asyncio.sleep(0.001)
        encoder.gate.set()
        await asyncio.gather(*slow, *beside)
        assert [record.turn.user for record in db.memory("a").history()] == [
            "a0",
            "a1",
            "a2",
        ]
    assert max(len(jobs) for _, jobs in encoder.calls) >= 20  # and the next of "a", if it is quick


async def test_a_write_that_has_not_started_can_be_cancelled(tmp_path):
    encoder = Together()
    with evomem.open(str(tmp_path / "a.db"), encoder) as db:
        encoder.gate.clear()
        memory = db.memory("a")
        tasks = [asyncio.create_task(memory.aadd(f"turn {i}")) for i in range(3)]
        while not encoder.inside.is_set():
            await asyncio.sleep(0.001)
        tasks[1].cancel()
        encoder.gate.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert tasks[1].cancelled()
        assert [record.turn.user for record in memory.history()] == ["turn 0", "turn 2"]


@pytest.mark.parametrize("lane", [None, "a"])
def test_a_call_may_close_the_lanes_that_it_runs_in(lane):
    lanes = OrderedExecutor()
    assert lanes.submit(lanes.close, lane=lane).result(10) is None
    with pytest.raises(StoreError):
        lanes.submit(lambda: None, lane=lane)


def test_lanes_finish_everything_before_they_close():
    lanes = OrderedExecutor()
    done: list[int] = []
    futures = [lanes.submit(partial(done.append, i), lane=i % 3) for i in range(60)]
    lanes.close()
    assert all(future.done() for future in futures)
    for lane in range(3):
        assert [i for i in done if i % 3 == lane] == list(range(lane, 60, 3))
