"""Names of files reach terminals, logs and spreadsheets as text, whatever they are."""

import csv
import io
import logging

import pytest

from segdiff_jax.cli import app
from segdiff_jax.errors import USAGE, printable
from segdiff_jax.evaluation import html_page
from segdiff_jax.prediction.csv_cells import cell_of_name, name_of_cell
from segdiff_jax.prediction.summary import Row, Summary

NAMES = [
    *("a.png", "ü ß.png", "片.png", "a b'c.png", "'quoted'.png", "-1.png", "+1.png", "@SUM(1).png"),
    *("=cmd|'calc'!A0.png", "'=1+1.png", "''=1.png", "\x1b[2Jgood.png", "\x1b]0;pwned\x07.png"),
    *("a\nb.png", "a\r\n=1.png", "\t=1.png", "back\\slash.png", "back\\x1b.png", "\\\\.png"),
    *(
        "m\udce9lanome.tif",
        "\udcff\x1b.png",
        "\u202egnp.exe",
        "a\u2028b.png",
        "\x9b31m.png",
        "\x7f",
    ),
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_is_read_back_from_a_cell_that_is_no_formula_and_has_no_controls(name):
    cell = cell_of_name(name)
    assert name_of_cell(cell) == name
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or ord(c) in (0x2028, 0x202E) for c in cell)


def test_different_names_have_different_cells():
    assert len({*map(cell_of_name, NAMES)}) == len(NAMES)
    assert cell_of_name("ü ß.png") == "ü ß.png"


def test_a_summary_keeps_every_name(tmp_path):
    with Summary(tmp_path) as summary:
        for number, name in enumerate(NAMES):
            summary.add(Row(name, 1, 1, 0.5, 0.5, 0.5, 0.5, 0, 0.0, number, 0))
    text = (tmp_path / "summary.csv").read_bytes()
    assert b"\x1b" not in text and text.count(b"\n") == len(NAMES) + 1
    rows = list(csv.reader(io.StringIO(text.decode(errors="surrogateescape"))))
    assert not any(row[0].startswith(("=", "+", "-", "@")) for row in rows)
    assert {name: row.file_bytes for name, row in Summary(tmp_path).rows.items()} == {
        name: number for number, name in enumerate(NAMES)
    }


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_no_control_character_of_a_name_reaches_a_terminal_a_log_or_a_page(name, capsys):
    app.fail(f"{name}: cannot be read", USAGE)
    record = logging.LogRecord("", 20, "", 1, "%s: %d images", (name, 3), None)
    app._with_printable_names(record)
    page = html_page.TEMPLATES.from_string("{{ name }}").render(name=name)
    for text in (capsys.readouterr().err.rstrip("\n"), record.getMessage(), page):
        assert not any(
            ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in text
        )
        assert "\u202e" not in text


def test_what_is_text_is_shown_as_it_is():
    assert printable("ü ß 片 'a' \\ 5") == "ü ß 片 'a' \\ 5"
    assert printable("\x1b[2J\n\udce9") == "\\x1b[2J\\n\\udce9"
    page = html_page.TEMPLATES.from_string("{{ a }}{{ b }}").render(a="<i>ü", b=3)
    assert page == "&lt;i&gt;ü3"
