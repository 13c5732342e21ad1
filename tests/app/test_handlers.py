"""A page without a browser: what is sent comes back, what fails is a line, and all is bounded."""

import re

import numpy as np
import pytest
from page_pictures import load, page, picture, png, send, send_named, take
from stand_in import StandIn

from segdiff_jax.app import session as sessions_of_pages
from segdiff_jax.app.sessions import Sessions
from segdiff_jax.app.store import Recent, Store
from segdiff_jax.app.uploads import Uploads
from segdiff_jax.errors import UserError


class Watched(StandIn):
    """Calls a function with the number of pictures that were begun, at each row of tiles."""

    def __init__(self, watch):
        super().__init__()
        self.watch = watch

    def bands(self, images, first=0):
        for rows in super().bands(images, first):
            self.watch(len(self.asked))
            yield rows


def kept(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_pictures_come_back_with_outlines_and_tables_and_their_files_are_removed(tmp_path):
    handlers, session = page(tmp_path)
    send(handlers, session, a_png=png(picture()), b_png=png(picture(20)))
    told = []
    parts = take(handlers, told=told.append)
    assert [entry.name for entry in session.entries.values()] == ["a.png", "b.png"]
    assert parts["pictures"].count("data-key") == 2 and parts["problems"] == ""
    assert f"layers/{session.token}/1/outlines" in parts["viewer"]
    assert parts["objects"].count("data-key") == 2
    assert told == ["reading the network", "a.png, 1 more wait", "b.png", ""]
    assert not kept(tmp_path / "sent") and len(kept(tmp_path / "predicted")) == 2


def test_agreement_has_a_column_once_there_are_samples(tmp_path):
    def one_pass(budget, samples):
        model = load(budget, samples)
        model.config.sampling.generations = 3 if samples else 1
        return model

    handlers, session = page(tmp_path, load=one_pass)
    send(handlers, session, a_png=png(picture()))
    assert "agreement" not in take(handlers)["objects"]
    list(handlers.alternatives("one", "balanced"))
    parts = handlers.show("one", 1)
    assert "agreement" in parts["objects"] and parts["problems"] == ""


def test_one_that_fails_is_a_line_and_the_others_are_done(tmp_path):
    handlers, session = page(tmp_path)
    send(handlers, session, a_png=b"PK\3\4 no picture", b_png=png(picture()))
    parts = take(handlers)
    assert [entry.name for entry in session.entries.values()] == ["b.png"]
    assert re.search(r"<li>a\.png: begins with", parts["problems"])
    assert not kept(tmp_path / "sent")


def test_a_script_in_a_name_is_text_on_the_page(tmp_path):
    handlers, session = page(tmp_path)
    name = "<img src=x onerror=alert(1)>&\"'.png"
    send_named(handlers, session, name, png(picture()))
    send_named(handlers, session, f"{name} 2", b"no picture")
    parts = take(handlers)
    for part in ("pictures", "viewer", "problems", "status"):
        assert "<img src=x" not in parts[part], part
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;&#34;&#39;.png" in parts["pictures"]


def test_a_threshold_needs_no_pass_of_the_network(tmp_path):
    models = []

    def loading(budget, samples):
        models.append(load(budget, samples))
        return models[-1]

    handlers, session = page(tmp_path, load=loading)
    send(handlers, session, a_png=png(picture()), b_png=png(picture(9)))
    take(handlers)
    passes = [len(model.asked) for model in models]
    counts = {}
    for threshold in (0.2, 0.5, 0.9):
        handlers.set_threshold("one", threshold)
        list(handlers.answer_all("one"))
        counts[threshold] = [entry.line.objects for entry in session.entries.values()]
    assert counts == {0.2: [2, 2], 0.5: [2, 2], 0.9: [1, 1]}
    assert [len(model.asked) for model in models] == passes


def test_a_threshold_that_moves_meanwhile_is_answered_for_in_the_end(tmp_path):
    handlers, session = page(tmp_path)
    for number in range(4):
        send_named(handlers, session, f"{number}.png", png(picture()))
    take(handlers)
    session.threshold = 0.3
    for step, _ in enumerate(handlers.answer_all("one")):
        if step == 2:
            session.threshold = 0.9
    assert [entry.line.threshold for entry in session.entries.values()] == [0.9] * 4
    assert session.unanswered() == []


@pytest.mark.parametrize("value", [-0.1, 1, 7, "0.5", None, float("nan"), [1], True])
def test_another_threshold_is_refused_in_a_line(tmp_path, value):
    handlers, session = page(tmp_path)
    parts = handlers.set_threshold("one", value)
    assert session.threshold == 0.5 and "<li>threshold " in parts["problems"]


def test_another_budget_predicts_all_pictures_again_the_one_that_is_shown_first(tmp_path):
    handlers, session = page(tmp_path)
    send(handlers, session, a_png=png(picture()), b_png=png(picture(9)))
    take(handlers)
    handlers.show("one", 2)
    texts = [p["status"] for p in handlers.predict_again("one", "fast") if "status" in p]
    assert [re.search(r"fast, (.*?)</span>", text)[1] for text in texts[:2]] == [
        "1 of 2: b.png",
        "2 of 2: a.png",
    ]
    assert {entry.budget for entry in session.entries.values()} == {"fast"}
    assert list(handlers.predict_again("one", "fast"))[-1]["problems"] == ""


def test_each_prediction_is_by_the_model_of_the_budget_that_was_chosen(tmp_path):
    asked = []

    def loading(budget, samples):
        asked.append((budget, samples))
        return load(budget, samples)

    handlers, session = page(tmp_path, load=loading, samples=3)
    send(handlers, session, a_png=png(picture()))
    take(handlers, budget="paper")
    list(handlers.predict_again("one", "fast"))
    list(handlers.alternatives("one", "balanced"))
    assert asked == [("paper", 0), ("fast", 0), ("balanced", 3)]


def test_another_prediction_of_a_picture_is_answered_for_anew(tmp_path):
    """The model of the other budget finds nothing."""

    def loading(budget, samples):
        model = load(budget, samples)
        if budget == "fast":
            model.bands = lambda images, first=0: load("", 0).bands([0 * images[0]], first)
        return model

    handlers, session = page(tmp_path, load=loading)
    send(handlers, session, a_png=png(picture()))
    take(handlers)
    assert len(session.answered(1).objects) == 2
    list(handlers.predict_again("one", "fast"))
    assert len(session.answered(1).objects) == 0


def test_a_page_gives_back_its_own_pictures_and_each_its_own_files(tmp_path):
    handlers, one = page(tmp_path)
    handlers.begin("two")
    two = handlers.sessions.find("two")
    send(handlers, one, a_png=png(picture()), b_png=png(picture(20)))
    send(handlers, two, a_png=png(picture(9)))
    take(handlers)
    take(handlers, key="two")
    for again in (False, True):
        if again:  # from the disk
            handlers.sessions.store.recent.drop(lambda _: True)
        for session, number, shift in ((one, 1, 0), (one, 2, 20), (two, 1, 9)):
            assert np.array_equal(session.predicted(number).image, picture(shift))
            name, *_, answered = session.source(number)
            assert name == ("b.png" if shift == 20 else "a.png")
            rows, columns = np.nonzero(answered.mask[:18])
            assert (rows.min(), columns.min()) == (4, 5 + shift)


@pytest.mark.parametrize("budget", ["slow", None, 3, "../x", ["fast"], "<b>"])
def test_another_word_for_a_budget_is_a_line(tmp_path, budget):
    handlers, session = page(tmp_path)
    send(handlers, session, a_png=png(picture()))
    parts = take(handlers, budget=budget)
    assert "must be one of fast, balanced, paper" in parts["problems"] and not session.entries
    assert not kept(tmp_path / "sent")


def test_alternatives_are_drawn_when_first_asked_for_and_shown_in_turn(tmp_path):
    handlers, session = page(tmp_path, samples=3)
    send(handlers, session, a_png=png(picture()))
    take(handlers)
    shown = []
    for _ in range(5):
        parts = {}
        for more in handlers.alternatives("one", "balanced"):
            parts |= more
        shown.append(session.alternative)
    assert shown == [1, 2, 3, 0, 1] and session.entries[1].drawn == 3
    assert parts["viewer"].count("/alternative-") == 3
    assert "alternative 1 of 3" in parts["viewer"]
    handlers.show_alternative("one", 3)
    assert session.alternative == 3
    handlers.show_alternative("one", 99)
    assert session.alternative == 3


def test_a_row_shows_the_part_of_the_picture_with_its_object(tmp_path):
    handlers, session = page(tmp_path)
    send(handlers, session, a_png=png(picture(size=(300, 300))))
    take(handlers)
    parts = handlers.show_object("one", 2)
    window, (left, top) = session.window, (20, 20)
    assert window.left <= left and window.top <= top and window.height == window.width == 96
    assert "--w: 96; --h: 96" in parts["viewer"]
    handlers.show_whole("one")
    assert session.window is None


def test_pictures_are_shown_in_the_order_of_the_list(tmp_path):
    handlers, session = page(tmp_path)
    send(handlers, session, a_png=png(picture()), b_png=png(picture()), c_png=png(picture()))
    take(handlers)
    for number, dice in ((1, 0.9), (2, 0.2), (3, 0.5)):
        session.entries[number].line = session.entries[number].line._replace(dice=dice)
    assert session.order() == [2, 3, 1]
    seen = []
    for _ in range(4):
        session.show_next(1)
        seen.append(session.shown)
    assert seen == [2, 3, 1, 2]
    session.show_next(-1)
    assert session.shown == 1


@pytest.mark.parametrize("number", [0, 9, -1, None, "x", 1e400, [1], {"a": 1}])
def test_a_picture_that_is_not_there_is_a_line(tmp_path, number):
    handlers, session = page(tmp_path)
    send(handlers, session, a_png=png(picture()))
    take(handlers)
    assert "<li>this picture is gone" in handlers.show("one", number)["problems"]
    assert session.shown == 1
    handlers.remove("one", number)
    handlers.show_object("one", number)
    assert len(session.entries) == 1


def test_what_is_removed_leaves_no_file_and_the_next_is_shown(tmp_path):
    handlers, session = page(tmp_path)
    send(handlers, session, a_png=png(picture()), b_png=png(picture(9)))
    take(handlers)
    list(handlers.alternatives("one", "balanced"))
    assert len(kept(tmp_path)) == 3
    handlers.remove("one", 1)
    assert session.shown == 2 and kept(tmp_path) == [f"{session.token}-2.npz"]
    handlers.clear("one")
    assert not kept(tmp_path) and not session.entries and handlers.sessions.store.bytes == 0


def test_a_browser_that_leaves_in_the_middle_ends_the_work_and_leaves_nothing(tmp_path):
    calls = []

    def leave(pictures):
        calls.append(pictures)
        if pictures == 3:
            handlers.end("one")

    handlers, session = page(tmp_path, load=lambda *_: Watched(leave))
    for number in range(5):
        send_named(handlers, session, f"{number}.png", png(picture()))
    take(handlers)
    assert calls.count(1) == calls.count(2) == 6 and calls[12:] == [3]
    assert session.closed and not session.entries and len(handlers.sessions) == 0
    assert not kept(tmp_path)


def test_stop_ends_what_is_running_and_names_what_is_left(tmp_path):
    seen = []

    def stop(pictures):
        seen.append(session.doing)
        if pictures == 3:
            handlers.stop("one")

    handlers, session = page(tmp_path, load=lambda *_: Watched(stop))
    for number in range(5):
        send_named(handlers, session, f"{number}.png", png(picture()))
    parts = take(handlers)
    assert seen[:3] == [f"0.png, 4 more wait: {share}" for share in ("0%", "18%", "35%")]
    assert len(session.entries) == 2
    assert "stopped: 3 pictures are not predicted, 2.png the first" in parts["problems"]
    send(handlers, session, more_png=png(picture()))
    assert take(handlers)["pictures"].count("data-key") == 3


def test_whatever_the_network_raises_is_a_line(tmp_path):
    class Failing(StandIn):
        def bands(self, images, first=0):
            raise RuntimeError("RESOURCE_EXHAUSTED:\nout of memory")
            yield

    handlers, session = page(tmp_path, load=lambda *_: Failing())
    send(handlers, session, a_png=png(picture()))
    parts = take(handlers)
    assert "<li>a.png: RuntimeError: RESOURCE_EXHAUSTED: out of memory</li>" in parts["problems"]

    def none(budget, samples):
        raise UserError(f"budget={budget}: not of this network")

    handlers, session = page(tmp_path / "2", load=none)
    send(handlers, session, a_png=png(picture()))
    assert "<li>budget=balanced: not of this network</li>" in take(handlers)["problems"]


def test_results_are_bounded_on_disk_and_in_memory(tmp_path):
    handlers, session = page(tmp_path)
    send(handlers, session, a_png=png(picture()))
    take(handlers)
    one = handlers.sessions.store.bytes
    handlers.sessions.store._most = 3 * one
    for number in range(5):
        send_named(handlers, session, f"{number}.png", png(picture()))
    parts = take(handlers)
    assert len(session.entries) == 3 and handlers.sessions.store.bytes == 3 * one
    assert parts["problems"].count("remove pictures first") == 3
    recent = Recent(1000)
    for number in range(50):
        recent.get(number, lambda: b"x" * 300, len)
    assert recent.bytes == 900
    assert recent.get(50, lambda: b"x" * 5000, len) and recent.bytes == 5000
    calls = []
    recent.get(50, lambda: calls.append(1), len)
    assert not calls


def test_a_page_takes_so_many_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(sessions_of_pages, "MOST_PICTURES", 2)
    handlers, session = page(tmp_path)
    for _ in range(4):
        send_named(handlers, session, "a.png", png(picture()))
    parts = take(handlers)
    assert [entry.name for entry in session.entries.values()] == ["a.png", "a (2).png"]
    assert parts["problems"].count("holds 2 pictures, the most") == 2


def test_so_many_pages_are_open_and_an_empty_one_makes_room(tmp_path):
    (tmp_path / "sent").mkdir()
    sessions = Sessions(Store(tmp_path), Uploads(tmp_path / "sent", 99), 0.5, most=3)
    for key in "abc":
        sessions.of(key).entries[1] = key
    with pytest.raises(UserError, match="3 pages are open"):
        sessions.of("d")
    second = sessions.of("b")
    second.entries.clear()
    with pytest.raises(UserError, match="3 pages are open"):  # it was used just now
        sessions.of("d")
    second.used -= 61
    sessions.find("a").used -= 3000
    first = sessions.of("d")
    assert len(sessions) == 3 and sessions.find("b") is None and sessions.of("d") is first
    assert sessions.by_token(first.token) is first and sessions.by_token("x") is None
    assert second.closed and not first.closed
    sessions.find("a").used -= 3000
    sessions.of("e")
    assert sessions.find("a") is None


def test_the_files_of_a_page_that_makes_room_are_removed(tmp_path):
    handlers, session = page(tmp_path)
    send(handlers, session, a_png=png(picture()))
    handlers.sessions._most = 1
    session.used -= 61
    assert len(kept(tmp_path / "sent")) == 1
    handlers.begin("two")
    assert not kept(tmp_path) and session.closed and handlers.sessions.find("two")


def test_lines_about_what_failed_have_an_end(tmp_path):
    _, session = page(tmp_path)
    for number in range(200):
        session.add_problem(str(number))
    assert session.problems == [str(number) for number in range(150, 200)]


def test_maps_of_a_picture_are_read_only_where_it_is_shown(tmp_path):
    handlers, session = page(tmp_path)
    send(handlers, session, a_png=png(picture()), b_png=png(picture(9)))
    take(handlers)
    found = session.predicted(2)
    assert session.predicted(2) is found and np.array_equal(found.image, picture(9))
