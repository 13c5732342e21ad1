"""Writes a trained network for others, and lists those that are part of the package.

    segdiff export --workdir=RUN --output=DIR
    segdiff models

The flags are in `cli.export_args`. jax is imported only once the command line is known to be
correct: that takes seconds.
"""

from absl import logging

from segdiff_jax.checkpoint import places
from segdiff_jax.cli import app, export_args, options
from segdiff_jax.cli.export_args import Folder, Program
from segdiff_jax.config.schema import did_you_mean
from segdiff_jax.errors import UserError

LESS_MEMORY = "use a machine that has more"
HELPS = {"export": export_args.HELP, "models": export_args.MODELS_HELP}


def main(argv: list[str], mode: str = "export") -> int:
    """Runs a command line and returns its exit code.

    Args:
      argv: arguments without the name of the program.
      mode: "export" or "models".
    """
    program = models if mode == "models" else export
    return app.run(program, argv, HELPS[mode], LESS_MEMORY)


def export(argv: list[str]) -> None:
    """Parses a command line of `segdiff export` and runs it."""
    command = export_args.parse(argv)
    app.set_up_logging()
    if isinstance(command, Folder):
        from segdiff_jax.export import folder

        for line in folder.write(command):
            logging.info("%s", line)
    elif isinstance(command, Program):
        from segdiff_jax import api
        from segdiff_jax.export import answer

        model = api.load(command.workdir)
        logging.info("%s", answer.write(model, command))
    else:
        from segdiff_jax import import_torch

        import_torch.export_weights(command)


def models(argv: list[str]) -> None:
    """Prints the names of the networks of the package, or the card of one."""
    name, names = options.read_flags(export_args.MODELS_FLAGS, argv)["card"], places.shipped()
    if not name:
        lines = [f"{one}: {_size(one):.1f} MB; segdiff models --card={one}" for one in names]
        app.show("\n".join(lines) or "this version ships no trained networks")
        return
    if name not in names:
        listed = ", ".join(names) or "none"
        raise UserError(f"--card={name}: the package ships {listed}{did_you_mean(name, names)}")
    app.show(body_of_card(name))


def body_of_card(name: str) -> str:
    """Returns the card of a network of the package without its header."""
    text = (places.SHIPPED / name / places.CARD).read_text("utf-8")
    return text.split("---\n", 2)[-1].strip()


def _size(name: str) -> float:
    """Returns the size of a network's folder in MB."""
    folder = places.SHIPPED / name
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e6


if __name__ == "__main__":
    app.start(main)
