import pytest

from evomem import Turn
from evomem.errors import TurnError
from evomem.pairing import as_turns, joined
from evomem.records import MAX_CHARS

U = {"role": "user", "content": "question"}
A = {"role": "assistant", "content": "answer"}


def texts(items):
    return [(turn.user, turn.assistant) for turn in as_turns(items)]


THANKS = {"role": "user", "content": "thanks"}
LOOK = {"role": "assistant", "content": "Let me look."}


@pytest.mark.parametrize(
    ("messages", "turns"),
    [
        ([U, A, U, A], [("question", "answer"), ("question", "answer")]),
        ([U, A, U], [("question", "answer"), ("question", "")]),
        ([U, LOOK, A, U], [("question", "Let me look.\nanswer"), ("question", "")]),
        ([THANKS, U, A], [("thanks\nquestion", "answer")]),
        ([U, U, A], [("question", "answer")]),
        ([U, A, A], [("question", "answer")]),
        ([A, U, A], [("", "answer"), ("question", "answer")]),
        ([], []),
    ],
)
def test_an_exchange_is_all_that_is_said_before_the_user_speaks_again(messages, turns):
    assert texts(messages) == turns


def test_user_messages_that_nobody_answered_are_turns_of_their_own():
    assert texts([U, A, THANKS, U]) == [("question", "answer"), ("thanks", ""), ("question", "")]


def test_people_with_names_speak_for_themselves():
    spoken = [{**U, "name": "Caroline"}, {**A, "name": "Mel"}, {**A, "name": "Mel"}]
    expected = ["Caroline: question", "Mel: answer", "Mel: answer"]
    assert [turn.text for turn in as_turns(spoken)] == expected


def test_an_agent_with_a_name_answers_a_nameless_user():
    [turn] = as_turns([U, {**LOOK, "name": "planner"}, {**A, "name": "valet"}])
    assert turn.text == "User: question\nAssistant: Let me look.\nanswer"


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["It is on", " level 3", "."], "It is on level 3."),
        (["It is on level 3.", "Shall I go?"], "It is on level 3.\nShall I go?"),
        (["Hello.", "  ", "Hello."], "Hello."),
    ],
)
def test_pieces_of_a_sentence_are_joined_without_a_break(pieces, text):
    assert joined(pieces) == text


def test_messages_with_one_id_are_pieces_unless_a_sentence_ended():
    spoken = [{**A, "content": text, "id": "run-1"} for text in ("He par", "ked.", "It rained.")]
    assert texts([U, *spoken]) == [("question", "He parked.\nIt rained.")]


def test_interleaved_sessions_are_paired_each_by_itself():
    spoken = [{**U, "session": "1"}, {**THANKS, "session": "2"}]
    spoken += [{**A, "session": "1"}, {**LOOK, "session": "2"}]
    assert texts(spoken) == [("question", "answer"), ("thanks", "Let me look.")]


def test_a_side_that_is_too_long_for_one_turn_continues_in_the_next():
    half = {"role": "assistant", "content": "x" * (MAX_CHARS - 100)}
    turns = texts([U, half, {**half, "content": "y" * 200}])
    assert turns == [("question", half["content"]), ("", "y" * 200)]


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
