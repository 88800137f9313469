"""The page in a real Chromium: what a person sees, reads aloud, and can do."""

from __future__ import annotations

import pytest

from evomem.service.access import RIGHTS
from tests.service.http.chromium import Tab, browser
from tests.service.http.running import running

pytestmark = pytest.mark.enable_socket  # to a service of this process, on loopback

SCRIPT = "<script>alert('stored')</script><img src=x onerror=alert(1)>"
TESS = "m/acme%2Ftess/"
QUERY = "Where do I live?"
ASKED = "?q=Where+do+I+live%3F"
VIEWS = ["", TESS + "timeline", TESS + "search" + ASKED, TESS + "map" + ASKED, TESS + "replaced",
         TESS + "forks", "database", "keys", "access"]  # fmt: skip


@pytest.fixture(scope="module")
def service():
    """A service with a key, and memories with a fork, a correction, many turns, and markup."""
    with running() as made:
        db = made.service.db
        tess = db.memory("acme", "tess")
        tess.add("I live in Leeds.", reply="Noted.", id="leeds", session="one")
        tess.add("The weather is fine.", id="weather", session="one", speaker="Tess")
        tess.add("I moved to Bristol and live there.", id="bristol", session="two")
        tess.add(SCRIPT, id="markup", session=SCRIPT[:60], source="web", metadata={"<b>": "<i>"})
        tess.fork("what-if")
        tess.correct("weather", "The weather was awful.")
        tess.add("You live in Bristol.", role="assistant", id="answer", recalled=["bristol"])
        many = db.memory("many")
        many.add_many([{"role": "user", "content": f"Number {n}."} for n in range(1, 121)])
        made.secret, _ = made.service.keys.create((), RIGHTS)
        yield made


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


@pytest.fixture
def tab(chromium, service):
    made = Tab(chromium, service.url)
    yield made
    made.close()


def texts(page, selector):
    return page.locator(selector).all_inner_texts()


def until(page, condition):
    """Wait for a condition; Playwright's own way to do so is stopped by the page's policy."""
    for _ in range(1000):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    raise AssertionError(condition)


def test_the_page_asks_for_a_key_keeps_it_in_the_tab_and_never_in_an_address(tab, service):
    page = tab.open()
    assert page.locator("h1").inner_text() == "Open your memories"
    page.get_by_label("Key").fill("evk_wrong_key")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    assert "unknown, expired or revoked" in page.get_by_role("alert").inner_text()
    page.get_by_label("Key").fill(service.secret)
    page.get_by_role("button", name="Open").click()
    page.get_by_role("link", name="acme / tess").first.wait_for()
    page.reload()
    page.get_by_role("link", name="acme / tess").first.wait_for()
    assert service.secret not in page.url
    assert not [url for url in tab.asked if "evk_" in url]
    assert page.evaluate("() => [localStorage.length, document.cookie]") == [0, ""]
    page.get_by_role("button", name="Forget the key").click()
    page.get_by_label("Key").wait_for()
    assert page.evaluate("() => sessionStorage.length") == 0


def test_a_key_shows_its_own_memories_and_no_section_that_it_has_no_right_to(tab, service):
    secret, key = service.service.keys.create(("acme", "tess", "what-if"), ["read"])
    page = tab.open(key=secret)
    assert texts(page, "nav[aria-label=Sections] a") == ["Memories"]
    assert texts(page, ".tree .name") == ["acme / tess / what-if"]
    assert texts(page, ".tree .badge") == ["fork at turn 4"]
    page = tab.open(TESS + "timeline")
    assert "begin with" in page.get_by_role("alert").inner_text()
    service.service.keys.revoke(key.id)


def test_stored_markup_is_shown_as_text_everywhere(tab, service):
    page = tab.open(TESS + "timeline", key=service.secret)
    assert SCRIPT in texts(page, ".said")
    assert page.locator("main img, main script").count() == 0
    page = tab.open(TESS + "search?q=script+alert")
    assert SCRIPT in texts(page, ".hit .said")
    tab.open(TESS + "map?q=alert")
    page = tab.open(f"m/{SCRIPT.replace('/', '%252F')}/timeline")
    assert page.get_by_role("alert").count() == 1
    assert page.locator("main img, main script").count() == 0


def test_a_policy_stops_scripts_that_are_not_the_page_s(chromium, service):
    tab = Tab(chromium, service.url)
    page = tab.open(key=service.secret)
    ran = page.evaluate(
        """() => {
            const made = document.createElement("script");
            try { made.textContent = "window.ran = true"; } catch { return "refused"; }
            document.body.append(made);
            return window.ran ?? "stopped";
        }"""
    )
    assert ran in ("refused", "stopped")
    tab.context.close()


def test_the_timeline_goes_back_and_forth_and_to_any_turn(tab, service):
    page = tab.open("m/many/timeline", key=service.secret)
    assert "Turns 1 – 50 of 120" in page.locator(".steps").first.inner_text()
    page.get_by_role("link", name="Later").first.click()
    page.get_by_role("article", name="Turn 51", exact=True).wait_for()
    tab.settled()
    page.get_by_label("Go to turn").fill("117")
    page.keyboard.press("Enter")
    page.get_by_role("article", name="Turn 120").wait_for()
    assert page.get_by_role("article").count() == 4
    page.get_by_role("link", name="Earlier").first.click()
    page.get_by_role("article", name="Turn 67", exact=True).wait_for()
    page.get_by_role("link", name="Newest").first.click()
    page.get_by_role("article", name="Turn 71", exact=True).wait_for()
    page.go_back()
    page.get_by_role("article", name="Turn 67", exact=True).wait_for()


FILTERS: list[tuple[dict[str, str | bool], list[str]]] = [
    ({"Words": "live"}, ["1", "3", "6"]),
    ({"Session": "two"}, ["3"]),
    ({"Speaker": "Tess"}, ["5"]),
    ({"Until": "2020-01-01"}, []),
    ({"From": "2020-01-01", "with replaced turns": True}, ["1", "2", "3", "4", "5", "6"]),
]


def test_the_timeline_has_filters(tab, service):
    page = tab.open(TESS + "timeline", key=service.secret)
    for filters, turns in FILTERS:
        old = page.locator(".timeline").element_handle()
        filtered = "?" in page.url
        page.get_by_role("link", name="Clear").click()
        if filtered:
            old.wait_for_element_state("hidden")
        tab.settled()
        for name, value in filters.items():
            control = page.get_by_label(name, exact=True)
            control.check() if isinstance(value, bool) else control.fill(value)
        old = page.locator(".timeline").element_handle()
        page.get_by_role("button", name="Apply").click()
        old.wait_for_element_state("hidden")
        tab.settled()
        assert [text.removeprefix("Turn ") for text in texts(page, ".turn .seq")] == turns


def test_a_search_is_shown_beside_one_of_the_past_and_one_without_memory(tab, service):
    memory = service.service.db.memory("acme", "tess")
    page = tab.open(TESS + "search", key=service.secret)
    page.get_by_label("Question").fill(QUERY)
    page.get_by_role("button", name="Search").click()
    page.locator(".hit").first.wait_for()
    tab.settled()

    def shown(column):
        hits = page.get_by_role("region", name=column).locator(".hit")
        names = hits.locator("header b").all_inner_texts()
        return list(zip(names, hits.locator(".score").all_inner_texts(), strict=True))

    def found(**how):
        hits = memory.search(QUERY, 5, **how)
        return [(f"Turn {hit.seq}", f"{hit.score:.2f}") for hit in hits]

    assert shown("Now") == found()
    assert shown("As of") == found(at=3)
    assert len(shown("Without memory")) == 5
    assert shown("Without memory") != shown("Now")
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("Home")
    until(page, "() => location.hash.includes('at=1')")
    page.get_by_text("not among the hits now").first.wait_for(state="hidden")
    until(
        page, "() => document.querySelectorAll('.column')[1].querySelectorAll('.hit').length === 1"
    )
    assert shown("As of") == found(at=1)
    assert slider.get_attribute("aria-valuetext") == "turn 1"
    hit = page.locator(".hit").first
    parts = memory.search(QUERY, 1)[0].parts
    assert hit.locator(".parts b").all_inner_texts() == [f"{value:.2f}" for value in parts.values()]
    widths = hit.locator(".segment").evaluate_all("all => all.map((bar) => bar.offsetWidth)")
    assert widths[0] / widths[1] == pytest.approx(parts["evolvable"] / parts["lexical"], rel=0.2)


def test_the_map_can_be_read_with_the_arrow_keys(tab, service):
    page = tab.open(TESS + "map" + ASKED, key=service.secret)
    memory = service.service.db.memory("acme", "tess")
    hits = memory.search(QUERY, 1, mode="evolvable")
    cells = page.locator(".heat tbody tr").last.locator("td")
    cells.last.focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowDown")
    expected = {hit.seq: hit.score for hit in memory.search(QUERY, 9, mode="evolvable")}
    assert f"As of turn 6: {expected[6]:.2f} to turn 6" in page.locator(".readout").inner_text()
    best = page.locator("td.best").last
    assert best.get_attribute("aria-label") == f"{hits[0].score:.2f}"


def test_the_page_shows_replaced_turns_and_where_forks_diverge(tab, service):
    page = tab.open(TESS + "replaced", key=service.secret)
    assert texts(page, ".pair .seq") == ["Turn 2", "Turn 5"]
    page = tab.open(TESS + "forks")
    page.get_by_role("button", name="Show where they part").click()
    page.get_by_text("Nothing was added since.").wait_for()
    assert texts(page, ".forks .seq") == ["Turn 5", "Turn 6"]
    page = tab.open("m/acme%2Ftess%2Fwhat-if/forks")
    assert page.get_by_role("heading", name="Forked from acme / tess").count() == 1


def test_a_purge_is_previewed_and_confirmed_before_it_is_done(tab, service):
    memory = service.service.db.memory("purge")
    for number, text in enumerate(["I live in Leeds.", "A secret.", "It rains."]):
        memory.add(text, id=f"t{number}")
    memory.add("Right.", id="answer", recalled=["t1"])
    page = tab.open("m/purge/timeline", key=service.secret)
    button = page.get_by_role("button", name="Purge of turn 2")
    button.click()
    dialog = page.get_by_role("dialog", name="What a purge would do")
    dialog.locator(".counts").wait_for()
    assert texts(page, ".counts b") == ["1", "2", "2", "1"]
    assert "Right." in dialog.locator(".brief").first.inner_text()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert button.evaluate("element => element === document.activeElement")
    assert len(memory) == 4
    button.click()
    confirm = dialog.get_by_role("button", name="Purge for good")
    assert confirm.is_disabled()
    dialog.get_by_label("I know that this cannot be undone").check()
    confirm.click()
    dialog.get_by_text("The turn is forgotten.").wait_for()
    assert [record.id for record in memory.history()] == ["t0", "t2", "answer"]
    dialog.get_by_role("button", name="Close").click()
    page.get_by_role("article", name="Turn 2").wait_for(state="detached")


def test_a_purge_of_what_forks_share_has_to_name_them(tab, service):
    memory = service.service.db.memory("shared")
    memory.add("Shared.", id="t0")
    memory.fork("fork")
    page = tab.open("m/shared/timeline", key=service.secret)
    page.get_by_role("button", name="Purge of turn 1").click()
    page.get_by_label("I know that this cannot be undone").check()
    confirm = page.get_by_role("button", name="Purge for good")
    assert confirm.is_disabled()
    page.get_by_label("purge it from shared / fork, too").check()
    confirm.click()
    page.get_by_text("The turn is forgotten.").wait_for()
    assert len(memory) == len(service.service.db.memory("shared", "fork")) == 0


def test_a_read_only_key_sees_the_influence_and_no_purge_button(tab, service):
    secret, _ = service.service.keys.create(("acme",), ["read"])
    page = tab.open(TESS + "timeline", key=secret)
    page.get_by_role("button", name="Influence of turn 3").click()
    page.get_by_text("This key has no right to forget.").wait_for()
    assert page.get_by_role("button", name="Purge for good").count() == 0


def test_an_admin_verifies_makes_and_revokes_keys_and_reads_the_log(tab, service):
    page = tab.open("database", key=service.secret)
    page.get_by_role("button", name="Verify").click()
    page.get_by_text("No faults: every digest holds.").wait_for()
    page = tab.open("keys")
    page.get_by_text("Make a key", exact=True).click()
    page.get_by_label("For memories below").fill("acme/tess")
    page.get_by_label("Note").fill("for the test")
    page.get_by_role("button", name="Make the key").click()
    secret = page.get_by_label("The new key, shown this once").input_value()
    access = service.service.keys.find(secret)
    assert (access.prefix, access.rights) == (("acme", "tess"), {"read"})
    page.get_by_role("button", name=f"Revoke the key {access.key}").click()
    page.get_by_role("button", name="Revoke for good").click()
    page.get_by_role("row", name=access.key).get_by_text("revoked").wait_for()
    assert service.service.keys.find(secret) is None
    page = tab.open("access")
    assert page.get_by_role("table").locator("tbody tr").count() > 0
    assert "Leeds" not in page.locator("main").inner_text()


def test_everything_can_be_reached_with_the_keyboard(tab, service):
    page = tab.open(key=service.secret)
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="tess", level=1).wait_for()
    until(page, "() => document.activeElement.id === 'main'")
    assert page.title() == "tess · evomem"
    assert page.locator("#status").get_attribute("aria-live") == "polite"


def test_no_view_has_a_barrier_in_either_scheme_or_is_wider_than_a_phone(chromium, service):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe().axe_script
    tab = Tab(chromium, service.url, bypass_csp=True)
    tab.open(key=service.secret)
    for view in VIEWS:
        page = tab.open(view)
        if view.endswith("forks"):
            page.get_by_role("button", name="Show where they part").click()
            tab.settled()
        look_at(axe, page, view)
        if view.endswith("timeline"):
            page.get_by_role("button", name="Purge of turn 3").click()
            page.locator("dialog .counts").wait_for()
            look_at(axe, page, "purge")
    tab.close()


def look_at(axe, page, view):
    brief = {"resultTypes": ["violations"]}
    colours = {"runOnly": {"type": "rule", "values": ["color-contrast"]}, **brief}
    page.evaluate(axe)
    for scheme, width, options in (("light", 1280, brief), ("dark", 360, colours)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        until(
            page,
            "() => !document.getAnimations().some(one => one instanceof CSSTransition)",
        )
        find = "options => axe.run(options).then(found => found.violations)"
        violations = page.evaluate(find, options)
        result = [(one["id"], one["nodes"][0]["html"]) for one in violations]
        assert result == [], (view, scheme, width)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width, view
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 800})
