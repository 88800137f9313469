"""The stages on a small history, with a scripted endpoint that also misbehaves."""

import json
import signal
import subprocess
import sys

import pytest

from benchmarks.datasets import Conversation, Question, load_stream
from benchmarks.datasets.base import ABSTENTION
from benchmarks.qa import main, prompts
from benchmarks.qa.answers import exact, f1, verdict
from benchmarks.qa.contexts import Context, count_tokens, cut
from benchmarks.qa.endpoint import Endpoint, EndpointError
from benchmarks.qa.summary import choice_score
from evomem import Turn
from tests.benchmarks.endpoint import Script, serving
from tests.conftest import ROOT

TEXTS = [
    "I adopted a cat called Miso.",
    "The weather is grey.",
    "I moved to Oslo.",
    "My sister plays the cello.",
]
QUESTIONS = [
    ("Which cat did I adopt?", "Miso", "pets", [0]),
    ("Where did I move to?", "Oslo", "places", [2]),
    ("What does my sister play?", "the cello", "people", [3]),
    ("What is my brother's name?", "It was never said.", "abstention", []),
]


@pytest.fixture
def data(tmp_path):
    def stream(name):
        turns = [{"speaker": "user", "text": text, "date": "March-15-2024"} for text in TEXTS]
        queries = [
            {"question": question, "answer": answer, "type": kind, "evidence": evidence}
            for question, answer, kind, evidence in QUESTIONS
        ]
        return json.dumps({"id": name, "turns": turns, "queries": queries})

    path = tmp_path / "tiny.jsonl"
    path.write_text("\n".join(map(stream, "abc")))
    return path


def answering(prompt):
    """Read well if the turn is in the context; judge by whether the right answer is in the given."""
    if prompt.startswith("Decide"):
        truth = prompt.partition("Right answer: ")[2].partition("\n")[0].lower()
        given = prompt.partition("Given answer: ")[2].partition("\n")[0].lower()
        if not truth:
            return "yes" if "not mentioned" in given else "No."
        return "Yes." if truth in given else "no"
    question = prompt.partition("Question: ")[2].partition("\n")[0]
    for asked, answer, _, evidence in QUESTIONS:
        if asked == question and evidence and TEXTS[evidence[0]] in prompt:
            return f"{answer}."
    return "This was not mentioned."


def options(url, out, data, *more):
    return [
        *("--stream", str(data), "--system", "bm25", "--out", str(out)),
        *("--reader-model", "small", "--reader-url", url),
        *("--judge-model", "wise", "--judge-url", url, *more),
    ]


pytestmark = pytest.mark.enable_socket  # to an endpoint of this process, on loopback


def test_questions_are_answered_judged_and_paid_for(tmp_path, data, capsys):
    script = Script(answering)
    with serving(script) as url:
        assert main(options(url, tmp_path / "out", data, "--k", "1", "4", "--budget", "25")) == 0
    result = json.loads((tmp_path / "out" / "qa.json").read_text())
    results = result["datasets"][0]["systems"]["bm25"]
    assert set(results["contexts"]) == {"k1", "k4", "25 tokens"}
    for context in results["contexts"].values():
        assert context["questions"] == 12
        assert context["judged"]["all"] == [1, 1, 1]
        assert context["exact"]["all"][0] == 1
        assert context["read_tokens"] > 0
        assert context["judge_tokens"] > 0
    assert results["contexts"]["k1"]["prompt_tokens"] < results["contexts"]["k4"]["prompt_tokens"]
    assert results["retrieval"]["figures"]["all recall@5"][0] == 1
    assert results["retrieval"]["ingest_tokens"] == 3 * sum(
        count_tokens(f"User: {text}") for text in TEXTS
    )
    assert "judged, %" in capsys.readouterr().out
    assert (tmp_path / "out" / "qa_tiny.svg").read_text().startswith("<?xml")


def test_a_reader_that_sees_nothing_useful_is_judged_wrong_where_there_is_an_answer(tmp_path, data):
    with serving(Script(answering)) as url:
        argv = options(url, tmp_path, data, "--k", "1")
        argv[argv.index("bm25")] = "recency"
        assert main(argv) == 0
    result = json.loads((tmp_path / "qa.json").read_text())
    judged = result["datasets"][0]["systems"]["recency"]["contexts"]["k1"]["judged"]
    assert judged["types"] == {"pets": 0, "places": 0, "people": 1, "abstention": 1}


def test_a_finished_run_asks_for_nothing_again(tmp_path, data):
    script = Script(answering)
    with serving(script) as url:
        assert main(options(url, tmp_path, data)) == 0
        asked = len(script.prompts)
        assert main(options(url, tmp_path, data)) == 0
    assert asked == len(script.prompts) == 2 * 12


@pytest.mark.parametrize("trouble", ["timeout", "rate", "broken"])
def test_temporary_failures_are_retried(tmp_path, data, trouble):
    script = Script(answering, trouble=[trouble])
    with serving(script) as url:
        endpoint = Endpoint(url, "small", timeout=0.3, retries=2)
        assert endpoint.ask("Question: Where?").text == "This was not mentioned."
    assert len(script.prompts) == 2


@pytest.mark.parametrize("trouble", ["html", "garbage", "empty"])
def test_a_reply_that_is_none_is_an_error_that_shows_it(trouble):
    with serving(Script(answering, trouble=[trouble])) as url:
        endpoint = Endpoint(url, "small", retries=0)
        with pytest.raises(EndpointError, match="small (gave no reply|sent no chat completion)"):
            endpoint.ask("Question: Where?")


def test_questions_that_failed_are_asked_in_the_next_run(tmp_path, data, capsys):
    with serving(Script(answering, trouble=["garbage"])) as url:
        assert main(options(url, tmp_path, data, "--retries", "0", "--parallel", "1")) == 0
        first = json.loads((tmp_path / "qa.json").read_text())
        assert "failed and are left for the next run" in capsys.readouterr().err
        assert main(options(url, tmp_path, data, "--retries", "0", "--parallel", "1")) == 0
        assert main(options(url, tmp_path, data, "--retries", "0", "--parallel", "1")) == 0
        last = json.loads((tmp_path / "qa.json").read_text())

    def answered(result):
        return result["datasets"][0]["systems"]["bm25"]["contexts"]["k8"]["questions"]

    assert answered(first) < answered(last) == 12


def test_a_verdict_that_is_neither_yes_nor_no_counts_as_wrong_and_is_reported(tmp_path, data):
    def muddled(prompt):
        return "Yes and no." if prompt.startswith("Decide") else answering(prompt)

    with serving(Script(muddled)) as url:
        assert main(options(url, tmp_path, data)) == 0
    [system] = json.loads((tmp_path / "qa.json").read_text())["datasets"][0]["systems"].values()
    assert system["contexts"]["k8"]["unclear_verdicts"] == 12
    assert system["contexts"]["k8"]["judged"]["all"][0] == 0


@pytest.mark.parametrize("prompts_until_kill", [5, 15])
def test_a_killed_run_continues_where_it_was(tmp_path, data, prompts_until_kill):
    """Killed in the middle of a stage, without a chance to clean up, then run to its end."""
    running: list[subprocess.Popen[bytes]] = []

    def killing(prompt):
        if running and len(script.prompts) >= prompts_until_kill:
            running[0].send_signal(signal.SIGKILL)
        return answering(prompt)

    script = Script(killing)
    with serving(script) as url:
        argv = options(url, tmp_path, data, "--parallel", "1")
        command = [sys.executable, "-m", "benchmarks", "qa", *argv]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        running.append(process)
        assert process.wait() == -signal.SIGKILL
        running.clear()
        assert main(argv) == 0
        done = len(script.prompts)
        assert main(argv) == 0
    assert done == len(script.prompts) <= 24 + 1  # at most the one that was under way is repeated
    [system] = json.loads((tmp_path / "qa.json").read_text())["datasets"][0]["systems"].values()
    assert system["contexts"]["k8"]["judged"]["all"] == [1, 1, 1]


def test_the_whole_history_is_one_context(tmp_path, data):
    script = Script(answering)
    with serving(script) as url:
        argv = options(url, tmp_path, data)
        argv[argv.index("bm25")] = "full"
        assert main(argv) == 0
    reading = [prompt for prompt in script.prompts if not prompt.startswith("Decide")]
    assert all(text in prompt for prompt in reading for text in TEXTS)


def conversation():
    turns = [Turn(user=text) for text in TEXTS]
    return Conversation("c", turns)


def test_a_context_holds_the_best_turns_oldest_first():
    assert Context(k=2).text(conversation(), [3, 0, 1]) == (
        "User: I adopted a cat called Miso.\nUser: My sister plays the cello."
    )
    assert Context().text(conversation(), ["A fact.", 1]) == "A fact.\nUser: The weather is grey."


def test_a_budget_is_kept_and_a_turn_that_is_too_long_is_passed_over_or_cut():
    long = Conversation("c", [Turn(user="word " * 50), Turn(user="It rains.")])
    assert Context(tokens=20).text(long, [0, 1]) == "User: It rains."
    shown = Context(tokens=20).text(long, [0])
    assert shown.startswith("User: word word")
    assert count_tokens(shown) == 20
    assert cut("short", 20) == "short"


def test_f1_and_exact_match_look_at_words_alone():
    assert exact("The Cello!", "cello") == 1
    assert f1("the small cello", "Cello") == pytest.approx(2 / 3)
    assert f1("violin", "cello") == 0


def test_a_verdict_is_one_word():
    assert verdict("Yes") is True
    assert verdict(" no, it is not") is False
    assert verdict("") is None
    assert verdict("yes or no?") is None


def test_prompts_say_what_makes_an_answer_right():
    def asked(kind, why="", answer="Oslo"):
        return prompts.judging(Question("Where?", kind, (), why, answer), "Rome")

    assert "off by one" in asked("temporal-reasoning")
    assert "Rubric: Oslo" in asked("single-session-preference")
    assert "outdated" in asked("knowledge-update")
    assert "Right answer" not in asked("multi-session", ABSTENTION)
    assert "information is missing" in asked("adversarial", answer="")
    choices = Question("Hi?", "t", (), "", "(b)", choices=("(a) one", "(b) two"))
    assert prompts.reading(choices, "").endswith(
        "(a) one\n(b) two\n\nName the letter of that reply, and nothing else."
    )


def test_a_dataset_without_a_reader_gives_retrieval_alone(tmp_path, data):
    argv = ["--stream", str(data), "--system", "hash", "--out", str(tmp_path), "--workers", "2"]
    assert main(argv) == 0
    [system] = json.loads((tmp_path / "qa.json").read_text())["datasets"][0]["systems"].values()
    assert system["contexts"] == {}
    assert system["retrieval"]["questions"] == 9
    assert len(load_stream(data).conversations) == 3


def test_a_choice_is_right_if_the_reply_names_its_letter_and_no_other():
    question = Question("Hi?", "t", (), "", "(b)", choices=("(a) one", "(b) two"))
    for right in ("(b)", "b", "B)", "The best reply is (b) two."):
        assert choice_score(right, question) == 1, right
    for wrong in ("(a)", "", "(a) or (b)", "bb"):
        assert choice_score(wrong, question) == 0, wrong


def test_choices_are_scored_without_a_judge(tmp_path):
    (tmp_path / "shared_contexts_32k.jsonl").write_text(
        json.dumps({"c": [{"role": "user", "content": "I drink tea."}]})
    )
    path = tmp_path / "questions_32k.csv"
    path.write_text(
        "question_id,question_type,user_question_or_message,correct_answer,all_options,"
        "shared_context_id,end_index_in_shared_context\n"
        'q1,recall,What do I drink?,(b),"[""(a) Milk"", ""(b) Tea""]",c,1\n'
        'q2,recall,What do I eat?,(a),"[""(a) Cake"", ""(b) Tea""]",c,1\n'
    )
    script = Script(lambda prompt: "(b)")
    with serving(script) as url:
        argv = ["--personamem", str(path), "--system", "recency", "--out", str(tmp_path / "out")]
        argv += ["--reader-model", "m", "--reader-url", url, "--judge-model", "j"]
        assert main([*argv, "--judge-url", url]) == 0
    assert len(script.prompts) == 2
    [system] = json.loads((tmp_path / "out" / "qa.json").read_text())["datasets"][0][
        "systems"
    ].values()
    assert system["contexts"]["k8"]["judged"]["all"][0] == 0.5
    assert "f1" not in system["contexts"]["k8"]
