"""Makes the pages of the reference from the program itself: a hook of mkdocs.

Commands are what `--help` prints, the config is the table of `config.schema`, the library is the
signatures and docstrings of what `segdiff_jax` offers. Links to files outside docs/ become text,
and the diagram of imports a table: the program that draws it would come from another server.
"""

import contextlib
import inspect
import io
import posixpath
import re

from mkdocs.structure.files import File

HEAD = "| field | default | allowed | meaning |\n|---|---|---|---|"


def commands():
    """Returns the page of all commands, as the parsers explain themselves."""
    from segdiff_jax.cli import segdiff

    parts = ["# Commands", fenced(printed(segdiff.main, ["--help"]))]
    for name, program in segdiff.COMMANDS.items():
        parts += [f"## segdiff {name}", f"{program.summary[0].upper()}{program.summary[1:]}."]
        parts.append(fenced(printed(segdiff.main, [*name.split(), "--help"])))
    return "\n\n".join(parts)


def printed(function, argv):
    """Returns what a program prints to stdout."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = function(argv)
    assert code == 0 and out.getvalue(), argv
    return out.getvalue().rstrip()


def fenced(text, language="text"):
    """Returns a text as a block of code."""
    return f"```{language}\n{text}\n```"


def config():
    """Returns the page of all config fields, a table of each group."""
    from segdiff_jax.config.schema import FIELDS

    parts = [
        "# Config",
        "A field is set in a config file, or by `--config.GROUP.NAME=VALUE`. Paths of files and "
        "sizes are checked before anything starts. A meaning continues the name.",
    ]
    group = None
    for name, field in FIELDS.items():
        head = name.rpartition(".")[0] or "general"
        if head != group:
            group = head
            parts.append(
                f"\n## {group}\n\n| field | default | allowed | meaning |\n|---|---|---|---|"
            )
        cells = f"`{name}`", f"`{field.default!r}`", field.allowed.text, field.comment
        parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n\n".join(parts[:2]) + "\n" + "\n".join(parts[2:])


def library():
    """Returns the page of the library: `load`, and the classes it leads to."""
    from segdiff_jax import api
    from segdiff_jax.certainty import answers, prediction

    parts = ["# Library", "`segdiff_jax.load` gives a `Model`, whose `predict` gives a prediction."]
    shown = {"segdiff_jax.load": api.load, "Model": api.Model}
    shown |= {"Prediction": prediction.Prediction, "Objects": getattr(answers, "Objects", None)}
    for name, thing in shown.items():
        if thing is None:
            continue
        parts += [f"## {name}", *described(name, thing)]
        members = vars(thing).items() if inspect.isclass(thing) else ()
        for member, value in members:
            value = value.fget if isinstance(value, property) else value
            if not member.startswith("_") and inspect.isfunction(value) and value.__doc__:
                parts += [f"### {name}.{member}", *described(member, value)]
    return "\n\n".join(parts)


def described(name, thing):
    """Yields the signature and the docstring of a function or class."""
    with contextlib.suppress(ValueError):
        if inspect.isfunction(thing):
            yield fenced(f"{name}{inspect.signature(thing)}", "python")
    yield fenced(inspect.getdoc(thing) or "")


PAGES = {"commands": commands, "config": config, "api": library}


def on_files(files, config):
    """Adds the generated pages to the site."""
    for name, make in PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=make()))
    return files


def floors(diagram):
    """Returns the table of a diagram of imports: floors from the top, with their packages."""
    found, imports, named, floor = {}, {}, {}, ""
    for line in map(str.strip, diagram.splitlines()):
        if heading := re.fullmatch(r"subgraph \w+ \[floor (.*)\]", line):
            floor = heading[1]
        elif edge := re.fullmatch(r"(\w+) --> (.*)", line):
            imports[edge[1]] = edge[2].split(" & ")
        elif line not in ("end", "") and not line.startswith("flowchart"):
            for one in line.split("; "):
                name, _, label = one.rstrip("]").partition("[")
                found.setdefault(floor, []).append(name)
                named[name] = label or name
    rows = ["| floor | package | imports, besides what these import |\n|---|---|---|"]
    for floor, names in reversed(found.items()):
        for name in names:
            of = ", ".join(f"`{named[x]}`" for x in imports.get(name, ()))
            rows.append(f"| {floor} | `{named[name]}` | {of} |")
    return "\n".join(rows)


def on_page_markdown(markdown, page, **_):
    """Replaces what a site cannot show: the diagram, and links to files outside docs/."""
    block = r"```mermaid\n(.*?)\n```"
    markdown = re.sub(block, lambda match: floors(match[1]), markdown, flags=re.DOTALL)
    folder = posixpath.dirname(page.file.src_uri)

    def replace(match):
        path = posixpath.normpath(posixpath.join("docs", folder, match[2]))
        return match[0] if path.startswith("docs/") else f"{match[1]} (`{path}`)"

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^):#]+?)(?:#[^)]*)?\)", replace, markdown)
