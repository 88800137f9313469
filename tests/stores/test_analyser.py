"""The analyser: what the words of a text are, in every script, and how a query looks for them."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

import evomem
from evomem_stores.words.terms import MAX_TERM, PREFIX, query_terms, terms


@pytest.fixture
def memory():
    with evomem.open(":memory:", encoder="hash") as db:
        yield db.memory("a")


def search(memory, query):
    return [hit.seq for hit in memory.search(query, k=10, mode="lexical")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cats WERE running, quickly!", ["cat", "were", "run", "quick"]),
        ("", []),
        ("... !?", []),
        ("to be or not to be", ["to", "be", "or", "not", "to", "be"]),
        ("ＦＵＬＬ ﬁne", ["full", "fine"]),
        ("STRASSE straße", ["strass", "strass"]),
        ("猫が好き", ["猫", "が", "好", "き", "猫が", "が好", "好き"]),
        ("東京2024年", ["東", "京", "東京", "2024", "年"]),
        ("고양이", ["고", "양", "이", "고양", "양이"]),
        ("حي القاهرة", ["حي", "القاهرة"]),
        ("x_y 🎉 3.14", ["x_i", "3", "14"]),
        ("z" * 500, ["z" * MAX_TERM]),
        ("C, C#, C++17 and F#", ["c", "c#", "c++", "17", "f#"]),
        ("我用C++写", ["我", "用", "我用", "c++", "写"]),
        ("❤️ a‍b co­operate", ["ab", "cooper"]),
        ("Čeština", ["čeština", "~cestina"]),
        ("Łódź Tromsø", ["łódź", "tromsø", "~lodz", "~tromso"]),
        ("мой ёж", ["мой", "ёж", "~еж"]),
    ],
)
def test_texts_become_terms(text, expected):
    assert terms(text) == expected


@pytest.mark.parametrize(
    "word",
    ["दिल्ली", "বোন", "മലയാളം", "काठमाडौँ", "தமிழ்", "తెలుగు", "ਪੰਜਾਬੀ", "ગુજરાતી", "සිංහල", "ދިވެހި", "አማርኛ", "བོད"],
)  # fmt: skip
def test_a_word_keeps_its_combining_marks(word):
    assert terms(word)[0] == unicodedata.normalize("NFKC", word)


@pytest.mark.parametrize(
    ("written", "typed"),
    [
        ("القَاهِرَةِ", "القاهرة"),
        ("القـــاهرة", "القاهرة"),
        ("שָׁלוֹם", "שלום"),
        ("İstanbul", "istanbul"),
        ("ISPARTA", "ısparta"),
        ("می‌خواهم", "میخواهم"),
        ("Cafe\u0301", "café"),
    ],
)
def test_spellings_of_one_word_are_one_term(written, typed):
    assert terms(written) == terms(typed)


@given(st.text())
def test_a_term_is_one_token_without_upper_case(text):
    for term in terms(text):
        word = term.removeprefix(PREFIX)
        assert word
        assert not any(ch.isspace() for ch in word)
        assert not any("A" <= ch <= "Z" for ch in word)
        assert len(word) <= 2 * MAX_TERM  # "œ" is "oe" without its ligature


@given(st.text(max_size=40))
def test_a_text_is_found_by_itself(text):
    assert bool(terms(text)) == bool(set(terms(text)) & set(query_terms(text)))


def test_a_query_leaves_out_the_words_that_only_form_a_question():
    assert query_terms("What did you tell me about her cat?") == query_terms("tell me cat")
    assert query_terms("Who was it?") == query_terms("who")  # there is nothing else to look for
    assert "who" in query_terms("Who's who?")  # nor in the rest of a contraction
    assert query_terms("What about vitamin D?") == query_terms("vitamin D")
    assert "who" in terms("The Who played.")  # turns keep them


@given(st.text(st.characters(max_codepoint=0x7F)))
def test_the_short_way_for_ascii_gives_the_same_words(text):
    """A Greek letter takes a text the long way."""
    assert terms(f"{text} cat ω") == [*terms(f"{text} cat"), "ω"]


@pytest.mark.parametrize(
    ("word", "turns"),
    [
        ("मीना", ["मेरी बहन मीना पुणे में रहती है।", "मैं न चाय पीता हूँ न कॉफ़ी।", "आम का मौसम है।"]),
        ("দুধ", ["আমি দুধ খাই।", "দাদা ধনী।", "আমার বিড়াল।"]),
        ("แมว", ["ฉันเลี้ยงแมวสองตัว", "ฉันชอบกาแฟ", "พ่อเป็นชาวนา"]),
        ("ແມວ", ["ຂ້ອຍລ້ຽງແມວສອງໂຕ", "ຂ້ອຍມັກກາເຟ"]),
        ("ឆ្មា", ["ខ្ញុំចិញ្ចឹមឆ្មាពីរក្បាល", "ខ្ញុំចូលចិត្តកាហ្វេ"]),
        ("ကြောင်", ["ကျွန်တော် ကြောင်နှစ်ကောင်မွေးတယ်", "ဈေးသွားမယ်"]),
        ("Istanbul", ["İstanbul'da yaşıyorum.", "Kedimin adı Pamuk."]),
        ("القاهرة", ["أَعِيشُ فِي القَاهِرَةِ", "عندي قطة", "أحب القهوة"]),
        ("שלום", ["שָׁלוֹם חבר", "יש לי חתול"]),
    ],
)
def test_a_word_finds_the_one_turn_that_has_it(memory, word, turns):
    for text in turns:
        memory.add(text)
    assert search(memory, word) == [1]


def test_a_word_that_no_turn_has_finds_nothing(memory):
    memory.add("दाल में नमक कम है, मामा नाराज़ हैं।")
    memory.add("दिल की बात लिखी, लाल दीवार देखी।")
    assert search(memory, "दिल्ली") == []


def test_languages_named_by_a_letter_and_a_sign_are_distinguished(memory):
    for text in ("I write C# at work.", "I write C++ at home.", "I got a C in maths."):
        memory.add(text)
    assert [search(memory, name) for name in ("C#", "c++", "C")] == [[1], [2], [3]]


def test_words_typed_without_accents_find_those_with_accents(memory):
    memory.add("Nous avons réservé l'hôtel à Besançon.")
    memory.add("The hostel is in Basel.")
    assert search(memory, "hotel Besancon") == [1]


def test_words_typed_with_accents_find_those_without_and_with_others(memory):
    memory.add("l'hotel de la gare")
    memory.add("un hótel")
    memory.add("une gare")
    assert sorted(search(memory, "hôtel")) == [1, 2]


def test_the_word_as_it_was_typed_comes_before_others_with_the_same_letters(memory):
    for text in ("con bò sữa", "con bơ sữa", "con bọ sữa", "con bo sữa"):
        memory.add(text)
    for seq, query in enumerate(("bò", "bơ", "bọ", "bo"), start=1):
        assert search(memory, query)[0] == seq


def test_a_query_weighs_a_word_by_how_often_it_is_said():
    assert query_terms("cat cats") == {"cat": 2.0, "~cat": 1.0}
