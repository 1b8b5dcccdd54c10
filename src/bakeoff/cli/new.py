"""``bakeoff new``: writes a plugin to start from."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import click

from bakeoff.registry.errors import UsageError
from bakeoff.registry.validation import SNAKE_CASE
from bakeoff.registry.variants import KINDS

if TYPE_CHECKING:
    from bakeoff.registry.catalog import Catalog

__all__ = ["new"]

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"
#: What a variant of each kind is compared with.
_BASELINES = {"activation": "relu", "attention": "scaled_dot_product", "connection": "residual"}


@click.command()
@click.argument("kind", metavar="KIND", type=click.Choice(list(KINDS)))
@click.argument("name", metavar="NAME")
@click.option("--package", is_flag=True,
              help="a package with pyproject.toml, entry point and tests")  # fmt: skip
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), default=Path("."),
              help="the folder to write to, by default this one")  # fmt: skip
def new(kind: str, name: str, package: bool, output: Path) -> None:
    """Write a plugin to start from: KIND is activation, attention or connection.

    What it writes is a variant that works, with a reference and an independent faster forward;
    it passes `bakeoff check` and its own tests. Change it piece by piece, and check it again.
    """
    from bakeoff import load

    _require_name(name, load(pyproject=False), package)
    texts = _texts(kind, name, package)
    _write(output, texts)
    for path in texts:
        click.echo(f"Wrote {output / path}.")
    click.echo(_next(name, package, output))


def _require_name(name: str, catalog: Catalog, package: bool) -> None:
    if not SNAKE_CASE.fullmatch(name) or keyword.iskeyword(name):
        snake = "_".join("".join(c if c.isalnum() else " " for c in name).lower().split())
        hint = f"such as {snake}" if SNAKE_CASE.fullmatch(snake) else "such as my_variant"
        raise UsageError(f"NAME: got {name!r}, expected lower_snake_case, {hint}")
    if name in catalog:
        holder = catalog[name]
        origin = catalog.origins.get(holder.name, "elsewhere")
        raise UsageError(
            f"NAME: {name!r} is already the {holder.kind} {holder.name} from {origin}; choose "
            "another"
        )
    if package and _is_importable(name):
        raise UsageError(f"NAME: a module called {name!r} is installed already; choose another")


def _is_importable(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None


def _texts(kind: str, name: str, package: bool) -> dict[Path, str]:
    """What is written, by path."""
    project = name.replace("_", "-")
    names = {
        "name": name,
        "kind": kind,
        "project": project,
        "title": name.replace("_", " ").capitalize(),
        "baseline": _BASELINES[kind],
    }
    if not package:
        files = {Path(f"{name}.py"): f"{kind}.py", Path(f"test_{name}.py"): "test_file.py"}
    else:
        home = Path(project)
        files = {
            home / "pyproject.toml": "pyproject.toml",
            home / "README.md": "README.md",
            home / "src" / name / "__init__.py": f"{kind}.py",
            home / "tests" / f"test_{name}.py": "test_package.py",
        }
    return {path: _filled(template, names) for path, template in files.items()}


def _filled(template: str, names: Mapping[str, str]) -> str:
    text = (TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")
    return Template(text).substitute(names)


def _write(output: Path, texts: Mapping[Path, str]) -> None:
    """All files, or none where one is there already."""
    for path in texts:
        if (output / path).exists():
            raise UsageError(
                f"{output / path}: it is there already and was not touched; choose another name, "
                "or another folder with --output"
            )
    try:
        for path, text in texts.items():
            (output / path).parent.mkdir(parents=True, exist_ok=True)
            (output / path).write_text(text, encoding="utf-8")
    except OSError as error:
        told = error.strerror or str(error)
        raise UsageError(f"--output {output}: {told}; choose another folder") from error


def _next(name: str, package: bool, output: Path) -> str:
    if package:
        home = output / name.replace("_", "-")
        return f"Next: cd {home} && python -m pip install -e . && bakeoff check {name} && pytest"
    return f"Next: bakeoff check {output / f'{name}.py'} && pytest {output}"
