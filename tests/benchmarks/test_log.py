import json

from benchmarks.reporting.log import Log


def test_an_added_result_is_found_again(tmp_path):
    Log(tmp_path, "some system", {"seed": 1}).add("q1", [1, 2])
    again = Log(tmp_path, "some system", {"seed": 1})
    assert "q1" in again
    assert again.results == {"q1": [1, 2]}


def test_another_header_is_another_file(tmp_path):
    Log(tmp_path, "name", {"seed": 1}).add("q1", 1)
    assert Log(tmp_path, "name", {"seed": 2}).results == {}


def test_a_half_written_line_is_cut_off_at_any_byte(tmp_path):
    log = Log(tmp_path, "name", {})
    log.add("q1", "a")
    log.add("q2", "b")
    assert log.path
    content = log.path.read_bytes()
    for length in range(len(content)):
        log.path.write_bytes(content[:length])
        again = Log(tmp_path, "name", {})
        assert set(again.results) <= {"q1", "q2"}
        for id, result in (("q1", "a"), ("q2", "b")):
            if id not in again:
                again.add(id, result)
        assert log.path.read_bytes() == content


def test_results_are_as_a_resumed_run_would_read_them(tmp_path):
    log = Log(None, "name", {})
    log.add("q1", (1, 2))
    assert log.results["q1"] == [1, 2]
    assert log.path is None
    assert json.dumps(log.results)
