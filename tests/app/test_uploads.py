"""Files that are sent are written under names of the page's own, whole or not at all, bounded."""

import asyncio
import errno

import pytest
from page_pictures import page, send_named

from segdiff_jax.app import uploads as uploads_of_pages
from segdiff_jax.app.uploads import Uploads
from segdiff_jax.errors import UserError


def files(handlers):
    return [*handlers.uploads.folder.iterdir()]


@pytest.mark.parametrize("name", ["../../x.png", "/etc/passwd", "a\0b", "x" * 5000, "", "con"])
def test_a_name_decides_nothing_about_the_place(tmp_path, name):
    handlers, session = page(tmp_path)
    send_named(handlers, session, name, b"content")
    (path,) = files(handlers)
    assert path.parent == tmp_path / "sent" and path.read_bytes() == b"content"
    sent = handlers.uploads.take(session.token)
    assert (sent.name, sent.path, sent.size) == (name, path, 7)
    handlers.uploads.done(sent)
    assert not files(handlers) and handlers.uploads.take(session.token) is None


def test_files_are_taken_by_their_owner_in_the_order_in_which_they_came(tmp_path):
    handlers, session = page(tmp_path)
    handlers.begin("two")
    other = handlers.sessions.find("two")
    for name, owner in (("a", session), ("b", other), ("c", session)):
        send_named(handlers, owner, name, b"x")
    assert handlers.uploads.waiting(session.token) == 2
    assert [handlers.uploads.take(session.token).name for _ in range(2)] == ["a", "c"]
    assert handlers.uploads.take(other.token).name == "b"


@pytest.mark.parametrize(
    ("content", "size", "reason"),
    [
        (b"x" * 20, 10, "20 bytes came of 10"),
        (b"x" * 5, 10, "5 bytes came of 10"),
        (b"", 200_000_001, "200 MB are more than 100 MB"),
    ],
)
def test_another_size_than_was_said_or_too_large_a_one_is_refused(tmp_path, content, size, reason):
    handlers, session = page(tmp_path)
    with pytest.raises(UserError, match=reason):
        send_named(handlers, session, "a", content, size)
    assert not files(handlers) and not handlers.uploads._sent


def test_what_waits_is_bounded_until_it_is_done(tmp_path, monkeypatch):
    (tmp_path / "sent").mkdir()
    handlers, session = page(tmp_path)
    monkeypatch.setattr(handlers.uploads, "_most", 10)
    send_named(handlers, session, "a", b"x" * 6)
    with pytest.raises(UserError, match="too many files wait"):
        send_named(handlers, session, "b", b"x" * 6)
    sent = handlers.uploads.take(session.token)
    with pytest.raises(UserError, match="too many files wait"):
        send_named(handlers, session, "b", b"x" * 6)
    handlers.uploads.done(sent)
    send_named(handlers, session, "b", b"x" * 6)
    monkeypatch.setattr(uploads_of_pages, "MOST_FILES", 1)
    with pytest.raises(UserError, match="too many files wait"):
        send_named(handlers, session, "c", b"")


@pytest.mark.parametrize(
    ("error", "seen"),
    [(ConnectionError("gone"), UserError), (RuntimeError("gone"), RuntimeError)],
)
def test_a_sender_that_goes_in_the_middle_leaves_nothing(tmp_path, error, seen):
    uploads = Uploads(tmp_path, 100)

    async def chunks():
        yield b"x" * 10
        raise error

    with pytest.raises(seen, match="gone"):
        asyncio.run(uploads.keep("one", "a", 50, chunks()))
    assert not [*tmp_path.iterdir()] and uploads.waiting("one") == 0


def test_a_sender_that_falls_silent_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads_of_pages, "SILENT_SECONDS", 0.05)
    uploads = Uploads(tmp_path, 100)

    async def chunks():
        yield b"x" * 10
        await asyncio.sleep(60)
        yield b"x" * 40

    with pytest.raises(UserError, match="nothing came for 0.05 s"):
        asyncio.run(uploads.keep("one", "a", 50, chunks()))
    assert not [*tmp_path.iterdir()]


def test_a_full_disk_is_a_line(tmp_path, monkeypatch):
    handlers, session = page(tmp_path)

    async def full(sent, chunks):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(uploads_of_pages, "_write", full)
    with pytest.raises(UserError, match="cannot be written: No space left"):
        send_named(handlers, session, "a", b"x")
    assert not handlers.uploads._sent


def test_the_files_of_a_page_that_is_gone_are_removed(tmp_path):
    handlers, session = page(tmp_path)
    for name in "abc":
        send_named(handlers, session, name, b"x")
    handlers.end("one")
    assert not files(handlers)
    handlers.end("one")
