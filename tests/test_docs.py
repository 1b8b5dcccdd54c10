"""The pages that come from the code are what the code says, and their examples run."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(generate: ModuleType) -> dict[str, str]:
    return dict(generate.pages())


def test_pages_are_up_to_date(pages: dict[str, str]) -> None:
    told = "run `python docs/generate.py`"
    for path, text in pages.items():
        assert (DOCS / path).is_file(), f"docs/{path} is missing: {told}"
        assert (DOCS / path).read_text(encoding="utf-8") == text, f"docs/{path} is old: {told}"
    there = {f"variants/{path.name}" for path in (DOCS / "variants").glob("*.md")}
    assert there == {path for path in pages if path.startswith("variants/")}, told


def test_every_page_is_linked(pages: dict[str, str]) -> None:
    linked = set(re.findall(r"\]\((\w+\.md)\)", pages["variants/README.md"]))
    assert {f"variants/{name}" for name in linked} | {"variants/README.md", "metrics.md"} == set(
        pages
    )


def test_the_examples_of_all_pages_run(pages: dict[str, str]) -> None:
    for path, text in pages.items():
        for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            try:
                exec(compile(code, path, "exec"), {})
            except Exception as error:
                raise AssertionError(f"docs/{path}: {error}") from error
