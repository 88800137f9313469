import pytest

from evomem import Turn
from evomem.errors import TurnError
from evomem.pairing import as_turns

U = {"role": "user", "content": "question"}
A = {"role": "assistant", "content": "answer"}


def texts(items):
    return [(turn.user, turn.assistant) for turn in as_turns(items)]


@pytest.mark.parametrize(
    ("messages", "turns"),
    [
        ([U, A, U, A], [("question", "answer"), ("question", "answer")]),
        ([U, A, U], [("question", "answer"), ("question", "")]),
        ([U, U, A], [("question", ""), ("question", "answer")]),
        ([A, U, A], [("", "answer"), ("question", "answer")]),
        ([U, A, A], [("question", "answer"), ("", "answer")]),
        ([], []),
    ],
)
def test_a_user_message_and_its_answer_are_one_exchange(messages, turns):
    assert texts(messages) == turns


def test_people_with_names_speak_for_themselves():
    said = [{**U, "name": "Caroline"}, {**A, "name": "Mel"}]
    assert [turn.text for turn in as_turns(said)] == ["Caroline: question", "Mel: answer"]


def test_sessions_are_not_paired_across():
    assert len(as_turns([{**U, "session": "1"}, {**A, "session": "2"}])) == 2


def test_sources_are_not_paired_across():
    assert len(as_turns([{**U, "source": "user"}, {**A, "source": "tool"}])) == 2
    assert len(as_turns([U, {**A, "source": "tool"}])) == 2
    [turn] = as_turns([{**U, "source": "user"}, A])
    assert turn.source == "user"


def test_an_exchange_has_the_recalled_turns_of_both_messages():
    [turn] = as_turns([{**U, "recalled": ["a", "b"]}, {**A, "recalled": ("b", "c")}])
    assert turn.recalled == ("a", "b", "c")


@pytest.mark.parametrize("recalled", ["t1", {"t1": 1}, 5])
def test_recalled_turns_of_a_message_are_a_list(recalled):
    with pytest.raises(TurnError, match="message 1 has recalled of type"):
        as_turns([U, {**A, "recalled": recalled}])


def test_an_exchange_takes_id_time_and_metadata_from_where_they_are():
    [turn] = as_turns(
        [
            {**U, "metadata": {"a": 1, "b": 1}},
            {**A, "id": "x", "time": "2024-01-01T00:00:00Z", "metadata": {"b": 2, "c": 2}},
        ]
    )
    assert turn.id == "x"
    assert turn.time is not None
    assert turn.time.year == 2024
    assert turn.metadata == {"a": 1, "b": 1, "c": 2}


def test_turns_are_taken_as_they_are():
    turn = Turn(user="mine")
    assert as_turns([U, turn, A])[1] is turn


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("hello", "item 1 is a str"),
        ({"role": "system", "content": "x"}, "message 1 has the role 'system'"),
        ({"content": "x"}, "message 1 has the role None"),
        ({"role": "user", "content": ["x"]}, "message 1 has content of type list"),
        ({"role": "user"}, "message 1 has content of type NoneType"),
        ({"role": "user", "content": "  "}, "message 1: a turn needs text"),
        ({"role": "user", "content": "x", "tiem": "2024"}, "unknown field 'tiem'"),
        ({"role": "user", "content": "x", "time": "noon"}, "message 1: time 'noon'"),
        ({"role": "user", "content": "x", "metadata": 3}, "message 1: "),
    ],
)
def test_a_bad_item_is_named_by_its_position(item, says):
    with pytest.raises(TurnError, match=says):
        as_turns([Turn(user="fine"), item])
