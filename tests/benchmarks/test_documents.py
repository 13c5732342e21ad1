"""The figures that a program computes again are in the documents, and it sees one that is wrong."""

import pytest

from benchmarks import documents


@pytest.mark.parametrize("figure", documents.FIGURES, ids=lambda figure: figure.document)
def test_the_document_has_the_sentence(figure):
    assert all(number > 0 for number in documents.stated(figure))


def test_the_spread_of_exact_masks_is_that_of_the_documents():
    (figure, *_) = [one for one in documents.FIGURES if one.document == "docs/predict.md"]
    there, now = documents.stated(figure), figure.compute()
    assert documents.agrees(there, now, figure.within)


def test_a_wrong_figure_is_seen(monkeypatch, capsys):
    wrong = documents.FIGURES[-1]._replace(compute=lambda: (159.0,))
    monkeypatch.setattr(documents, "FIGURES", [wrong])
    assert documents.main() == 1
    assert "DIFFERS" in capsys.readouterr().out


@pytest.mark.slow
def test_every_figure_is_what_the_code_computes(capsys):
    assert documents.main() == 0, capsys.readouterr().out
