"""The service has a re-ranker, or none; a client asks for it and names no model."""

import pytest

import evomem
from evomem.errors import QueryError
from tests.service.http.running import running
from tests.test_reranking import QUESTION, TURNS, memory_with, tiny_cross_encoder

pytestmark = pytest.mark.enable_socket  # to a service of this process, on loopback


def test_a_client_gets_the_order_of_the_services_re_ranker(tmp_path):
    model = str(tiny_cross_encoder(tmp_path / "tiny"))
    here = memory_with(model, TURNS[:8])
    with running(reranker=model) as service, service.connect() as db:
        there = db.memory("alice")
        there.add_many(evomem.Turn(user=text) for text in TURNS[:8])
        hits = there.search(QUESTION, 8, rerank=True)
        assert [(hit.seq, dict(hit.parts)) for hit in hits] == [
            (hit.seq, dict(hit.parts)) for hit in here.search(QUESTION, 8, rerank=True)
        ]
        assert [hit.seq for hit in hits] != [hit.seq for hit in there.search(QUESTION, 8)]
        shown = there.context(QUESTION, rerank=True, max_tokens=60)
        assert hits[0].record.id in shown.ids


def test_a_service_without_a_re_ranker_says_so(db):
    memory = db.memory("alice")
    memory.add("Good soup.")
    for ask in (memory.search, memory.context):
        with pytest.raises(QueryError, match="evomem serve --reranker MODEL"):
            ask(QUESTION, rerank=True)


def test_a_client_cannot_name_a_model(service, db):
    import httpx

    memory = db.memory("alice")
    with pytest.raises(QueryError, match="rerank must be True or False"):
        memory.search(QUESTION, rerank="some/model")
    body = {"query": QUESTION, "rerank": "some/model"}
    answer = httpx.post(f"{service.url}/v1/memories/alice/search", json=body)
    assert answer.status_code == 422
