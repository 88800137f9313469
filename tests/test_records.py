from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomem import Turn
from evomem.errors import TurnError
from evomem.records import MAX_CHARS, MAX_METADATA, as_utc


@pytest.mark.parametrize(
    ("sides", "text", "role"),
    [
        ({"user": "Hi"}, "User: Hi", "user"),
        ({"assistant": "Hi"}, "Assistant: Hi", "assistant"),
        ({"user": "Hi", "assistant": "Yes?"}, "User: Hi\nAssistant: Yes?", "exchange"),
        ({"user": "Hi", "speaker": "Mel"}, "Mel: Hi", "user"),
        ({"assistant": "Hi", "speaker": "Bot"}, "Bot: Hi", "assistant"),
        ({"user": " Hi \n"}, "User:  Hi \n", "user"),
    ],
)
def test_text_is_the_references_format(sides, text, role):
    assert (Turn(**sides).text, Turn(**sides).role) == (text, role)


def test_recalled_ids_are_a_tuple_without_duplicates():
    assert Turn(user="x").recalled == ()
    assert Turn(user="x", recalled=["b", "a", "b"]).recalled == ("b", "a")


def test_neither_source_nor_recalled_turns_reach_the_encoder():
    labelled = Turn(user="x", source="web", recalled=["a"])
    assert labelled.content == Turn(user="x").content


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("user", "", "both sides are empty"),
        ("user", " \n\t", "both sides are empty"),
        ("user", 7, "user must be a string, got int"),
        ("user", None, "user must be a string, got NoneType"),
        ("user", "a\x00b", "NUL character at 1"),
        ("user", "\ud83d", "half of a surrogate pair at 0"),
        ("user", "x" * (MAX_CHARS + 1), "the limit is 262,144; split it"),
        ("assistant", "x" * 1_000_000, "the limit is 262,144; split it"),
        ("speaker", " ", "speaker is empty"),
        ("id", "", "id is empty"),
        ("id", "i" * 600, "the limit is 512"),
        ("session", 5, "session must be a string"),
        ("time", datetime(2024, 3, 5), "has no time zone"),
        ("time", "yesterday", "is not ISO 8601"),
        ("time", "2024-03-05T10:00:00", "has no time zone"),
        ("time", 1709640000, "must be a datetime or an ISO 8601 string"),
        ("time", datetime.min.replace(tzinfo=timezone(timedelta(hours=5))), "out of range"),
        ("metadata", [1], "metadata must be a mapping"),
        ("metadata", {"a": float("nan")}, "plain JSON"),
        ("metadata", {"a": object()}, "plain JSON"),
        ("metadata", {1: 2}, "metadata key must be a string"),
        ("metadata", {"a": ["\x00"]}, "NUL character"),
        ("metadata", {"a": {"b": "\ud800"}}, "surrogate"),
        ("metadata", {"a": [{"\udfff": 1}]}, "surrogate"),
        ("metadata", {"a": "x" * MAX_METADATA}, "as JSON, the limit is"),
        ("source", "", "source is empty"),
        ("source", 7, "source must be a string"),
        ("source", "s" * 600, "the limit is 512"),
        ("recalled", "t1", "must be a list of turn ids, got str 't1'"),
        ("recalled", None, "must be a list of turn ids"),
        ("recalled", {"t1": 1}, "must be a list of turn ids"),
        ("recalled", ["t1", 2], "an id in recalled must be a string"),
        ("recalled", [None], "an id in recalled is None"),
        ("recalled", ["a\x00"], "NUL character"),
        ("recalled", ["i" * 600], "the limit is 512"),
        ("recalled", [f"t{n}" for n in range(1001)], "the limit is 1,000"),
    ],
)
def test_an_invalid_field_is_refused_with_its_name_and_a_remedy(field, value, says):
    with pytest.raises(TurnError, match=says):
        Turn(**{"user": "text", field: value} if field != "user" else {"user": value})


@pytest.mark.parametrize(
    "text", ["\N{GRINNING FACE}", "שלום עולם", "e\u0301", "\u202eabc", "日本語"]
)
def test_every_script_and_emoji_is_taken_as_it_is(text):
    assert Turn(user=text).user == text


def test_times_are_kept_in_utc():
    tokyo = timezone(timedelta(hours=9))
    assert as_utc(datetime(2024, 3, 5, 9, tzinfo=tokyo)) == datetime(
        2024, 3, 5, tzinfo=timezone.utc
    )
    assert as_utc("2024-03-05T00:00:00Z") == as_utc("2024-03-05T09:00:00+09:00")


def test_metadata_is_a_copy_that_nobody_can_change():
    given_ = {"tags": ["a"]}
    turn = Turn(user="x", metadata=given_)
    given_["tags"].append("b")
    assert turn.metadata == {"tags": ["a"]}
    with pytest.raises(TypeError):
        turn.metadata["new"] = 1  # type: ignore[index]


@given(st.text(min_size=1), st.text(), st.text(min_size=1), st.text())
def test_content_tells_different_turns_apart(user, assistant, other_user, other_assistant):
    def content(u, a):
        try:
            return Turn(user=u, assistant=a).content
        except TurnError:
            return (u, a)

    same = (user, assistant) == (other_user, other_assistant)
    assert (content(user, assistant) == content(other_user, other_assistant)) == same
