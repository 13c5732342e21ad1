"""Nothing is written through a link out of a folder, and nothing odd is taken for a file."""

import os
import socket

import pytest

from segdiff_jax import errors
from segdiff_jax.runtime import own_files


def refused(directory, said, **names):
    with pytest.raises(errors.UserError, match=said) as error:
        own_files.check(directory, **names)
    assert error.value.code == errors.BAD_CHECKPOINT and "\n" not in str(error.value)


def a_socket(path):
    os.chdir(path.parent)  # the name of a socket has at most 108 bytes
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path.name)


KINDS = {"a pipe": os.mkfifo, "a folder": os.mkdir, "a socket": a_socket}


def test_a_directory_that_is_not_there_or_is_ones_own_can_be_used(tmp_path):
    own_files.check(tmp_path / "none", ["a"], ["b"])
    (tmp_path / "a").write_text("")
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "b" / "c" / "d").symlink_to(tmp_path / "a")
    own_files.check(tmp_path, ["a"], ["b"])
    (tmp_path.parent / "shortcut").symlink_to(tmp_path)
    own_files.check(tmp_path.parent / "shortcut", ["a"], ["b"])


@pytest.mark.parametrize("target", ["prey", "nothing", "folder"])
@pytest.mark.parametrize("name", [".lock", ".lock-holder", "a", "b", "b/c", "b/deep/er"])
def test_a_link_out_is_refused_wherever_it_leads(tmp_path, name, target):
    directory = tmp_path / "given"
    (directory / name).parent.mkdir(parents=True)
    (tmp_path / "prey").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / target, "../" * (name.count("/") + 1) + target):
        (directory / name).symlink_to(path)
        refused(directory, "is a link out of .* nothing is written", files=["a"], folders=["b"])
        (directory / name).unlink()


def test_links_elsewhere_in_the_directory_are_nobodys_business(tmp_path):
    (tmp_path / "notes").symlink_to("/etc")
    own_files.check(tmp_path, ["a"], ["b"])
    with pytest.raises(errors.UserError, match="notes is a link out"):
        own_files.check_whole(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [".lock", "a", "b", "b/c"])
def test_what_is_no_file_is_refused_where_a_file_is_written(tmp_path, monkeypatch, kind, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    KINDS[kind](tmp_path / name)
    if kind == "a folder" and name.startswith("b"):
        own_files.check(tmp_path, ["a"], ["b"])
    else:
        refused(tmp_path, f"{name} is {kind}; it must be ", files=["a"], folders=["b"])


def test_links_in_a_circle_end(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "self").symlink_to("self")
    refused(tmp_path, "self cannot be used: Too many levels", folders=["b"])
    (tmp_path / "b" / "self").unlink()
    (tmp_path / "b" / "up").symlink_to("..")
    own_files.check(tmp_path, folders=["b"])
    assert {entry.name for entry in own_files.below(tmp_path, follow=True)} >= {"b", "up"}
