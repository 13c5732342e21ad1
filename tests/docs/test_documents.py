"""The documents: links lead somewhere, the site lists them all, and commands exist."""

import ast
import contextlib
import io
import re

import pytest
import yaml
from tiny_config import ROOT

from segdiff_jax.cli import segdiff

DOCS = ROOT / "docs"
DOCUMENTS = [ROOT / "README.md", ROOT / "launch" / "README.md", *sorted(DOCS.glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
GENERATED = "reference/"  # pages that docs/reference_pages.py makes
MOST_LINES = 150  # of the README


def blocks(text):
    """Yields the commands of `segdiff` in the code of a document, a line each."""
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("segdiff "):
                yield line.partition(" #")[0]


COMMANDS = sorted({(path.name, line) for path in DOCUMENTS for line in blocks(path.read_text())})
BENCHMARK = re.compile(r"python -m benchmarks\.(\w+)([^`\n#|]*)")
BENCHMARKS = sorted(
    {
        (path.name, *found)
        for path in (*DOCUMENTS, ROOT / "MODELS.md")
        for found in BENCHMARK.findall(path.read_text().replace("\\\n", " "))
    }
)


def page_of_the_site(item):
    """Yields the files that an entry of the navigation names."""
    for value in item.values() if isinstance(item, dict) else [item]:
        if isinstance(value, str):
            yield value
        else:
            for inner in value:
                yield from page_of_the_site(inner)


class Loader(yaml.SafeLoader):
    """Reads mkdocs.yml, which names a function of Python."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/name:", lambda *_: None)


def site():
    return yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)  # noqa: S506


def test_the_site_has_every_document_and_no_other():
    listed = [page for item in site()["nav"] for page in page_of_the_site(item)]
    ours = [page for page in listed if not page.startswith(GENERATED)]
    assert sorted(ours) == sorted(path.name for path in DOCS.glob("*.md"))
    assert len(listed) == len(ours) + 3


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading(document):
    for link in LINK.findall(document.read_text()):
        if link.startswith("http"):
            continue
        name, _, heading = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if name.startswith(GENERATED):
            assert document.parent == DOCS, link
            continue
        assert target.exists(), f"{document.name}: {link}"
        if heading:
            heads = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert heading in slugs, f"{document.name}: {link}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize(("document", "line"), COMMANDS)
def test_every_command_and_flag_in_a_document_exists(document, line):
    words = re.sub(r"\[[^]]*\]", "", line).split()[1:]
    count = next((n for n in (2, 1) if " ".join(words[:n]) in segdiff.COMMANDS), 0)
    if words[0] == "COMMAND":
        return
    assert count or words[0].startswith("--"), f"{document}: {line}"
    name = words[:count] or ["train"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert segdiff.main([*name, "--help"]) == 0
    known = set(re.findall(r"--(\w+)", out.getvalue()))
    if name == ["check"]:  # of a run, another help
        known |= {"split", "output"}
    for word in words[count:]:
        flag = re.match(r"--(no)?([\w.]+)", word)
        if flag and not flag[2].startswith("config."):
            assert flag[2] in known | {"config", "help", "version"}, f"{document}: {line}"


@pytest.mark.parametrize(("document", "program", "words"), BENCHMARKS)
def test_every_benchmark_and_option_in_a_document_exists(document, program, words):
    text = ast.get_docstring(ast.parse((ROOT / "benchmarks" / f"{program}.py").read_text()))
    for flag, value in re.findall(r"--(\w+)=?([\w,]*)", words):
        assert f"--{flag}" in text, f"{document}: {program} has no --{flag}"
        if flag == "only":
            assert set(value.split(",")) <= set(re.findall(r"\w+", text)), f"{document}: {value}"
