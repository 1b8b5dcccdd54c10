"""What is wrong with a plugin is told clearly, and costs only that plugin."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from plugins import SOURCE, changed, write

import bakeoff

#: Another right plugin, which must load beside each broken one.
GOOD = changed(('"planted"', '"good_neighbour"'))

#: What is wrong, the source, and what the one problem must say.
BROKEN: dict[str, tuple[str, str]] = {
    "misspelt hook": (
        changed(("def bakeoff_variants", "def bakeoff_variant")),
        "hook: got 'bakeoff_variant', expected a known hook; did you mean bakeoff_variants?",
    ),
    "hook without a mark": (
        changed(("@hookimpl\n", "")),
        "hook 'bakeoff_variants': got a function without a mark, expected @hookimpl above it",
    ),
    "hook with arguments of its own": (
        changed(("def bakeoff_variants()", "def bakeoff_variants(registry)")),
        "hook 'bakeoff_variants': got bakeoff_variants(registry)",
    ),
    "no hook": (
        "x = 1\n",
        "hooks: got no function marked @hookimpl, expected at least one of bakeoff_variants",
    ),
    "import that fails": (
        "import no_such_module\n",
        "import failed: ModuleNotFoundError: No module named 'no_such_module'",
    ),
    "syntax error": ("def f(:\n", "import failed: SyntaxError: invalid syntax"),
    "exit at import": ("import sys; sys.exit(3)\n", "import failed: SystemExit: 3"),
    "hook that raises": (
        changed(("    yield Attention(", "    1 / 0\n    yield Attention(")),
        "hook 'bakeoff_variants' failed: ZeroDivisionError: division by zero",
    ),
    "hook that raises half-way": (
        SOURCE + "    raise RuntimeError('half-way')\n",
        "hook 'bakeoff_variants' failed: RuntimeError: half-way",
    ),
    "hook that returns nothing": (
        changed(("    yield Attention(", "    return\n    x = (Attention(")).rstrip() + ")\n",
        "hook 'bakeoff_variants': got None (NoneType), expected an iterable",
    ),
    "no variant": (
        changed(("    yield Attention(", "    yield 3\n    Attention(")),
        "bakeoff_variants: variant: got 3 (int), expected an Activation, an Attention or a",
    ),
    "no reference": (
        changed(('"reference": reference', '"fast": reference')),
        "variant 'planted': forwards: got fast, expected one named 'reference' among them",
    ),
    "forward that is no function": (
        changed(('"reference": reference', '"reference": 3')),
        "variant 'planted': forwards['reference']: got 3 (int), expected a function",
    ),
    "forward without an argument of the kind": (
        changed(("mask=None, causal=False", "mask=None")),
        "forwards['reference']: got (q, k, v, *, window, slope, mask=None, scale=None)",
    ),
    "forward without an option": (
        changed(("*, window, slope, mask", "*, slope, mask")),
        "forwards['reference']: got (q, k, v, *, slope, mask=None, causal=False, scale=None)",
    ),
    "parameter named like an argument": (
        changed(('"slope": nn', '"scale": nn'), ("*, window, slope, mask", "*, window, mask")),
        "parameters: got the name 'scale', expected a name that is no argument of attention",
    ),
    "parameter named like an option": (
        changed(('"slope": nn', '"window": nn')),
        "parameters: got the name 'window', expected a name that options does not use too",
    ),
    "parameter named like an attribute of modules": (
        changed(('"slope": nn', '"training": nn')),
        "parameters: got the name 'training', expected a name that is no attribute of a torch",
    ),
    "option named like an argument": (
        changed(('options={"window": 8}', 'options={"mask": 8}')),
        "options: got the name 'mask', expected a name that is no argument of attention",
    ),
    "option that is no plain value": (
        changed(('options={"window": 8}', 'options={"window": object()}')),
        "options['window']: got <object object at",
    ),
    "parameters that raise": (
        changed(("    return {", "    1 / 0\n    return {")),
        "parameters: got ZeroDivisionError: division by zero, expected a function of (shape, gen",
    ),
    "parameters that are no mapping": (
        changed(("    return {", "    return None and {")),
        "parameters: got None (NoneType), expected a mapping of name to tensor",
    ),
    "unknown tag": (
        changed(('tags=("soft",)', 'tags=("sof",)')),
        "metadata.tags: got 'sof' (str), expected a known tag; did you mean soft?",
    ),
    "unknown section": (
        changed(("properties={", 'section="spars", properties={')),
        "metadata.section: got 'spars' (str), expected a known section; did you mean sparse?",
    ),
    "unknown property": (
        changed(('{"row_stochastic"', '{"row_stochastik"')),
        "metadata.properties: got 'row_stochastik' (str), expected a property of the kind "
        "attention; did you mean row_stochastic?",
    ),
    "property of the wrong type": (
        changed(('"row_stochastic": True', '"row_stochastic": "yes"')),
        "metadata.properties['row_stochastic']: got 'yes' (str), expected a bool",
    ),
    "unused argument that there is not": (
        changed(("properties={", 'unused=("scal",), properties={')),
        "metadata.unused: got 'scal' (str), expected an argument of the forwards; did you mean s",
    ),
    "name in capitals": (
        changed(('"planted"', '"Planted"')),
        "variant 'Planted': name: got 'Planted' (str), expected lower_snake_case",
    ),
    "name with a space": (
        changed(('"planted"', '"my attention"')),
        "variant 'my attention': name: got 'my attention' (str), expected lower_snake_case",
    ),
    "metadata that is none": (
        changed(("metadata=Metadata(", "metadata=dict(")),
        "variant 'planted': metadata: got {'title': 'Planted'",
    ),
    "metadata without a field": (
        changed(('            formula="o",\n', "")),
        "Metadata.__init__() missing 1 required keyword-only argument: 'formula'",
    ),
    "empty title": (
        changed(('title="Planted"', 'title=" "')),
        "metadata.title: got ' ' (str), expected a text that is not empty",
    ),
    "no strengths": (
        changed(('strengths=("short",)', "strengths=()")),
        "metadata.strengths: got () (tuple), expected at least one",
    ),
    "paper that is none": (
        changed(("paper=Paper(", "paper=dict(")),
        "metadata.paper: got {'title': 'None'",
    ),
    "name of a built-in": (
        changed(('"planted"', '"scaled_dot_product"')),
        "the name 'scaled_dot_product' of scaled_dot_product from broken.py is already a name from "
        "bakeoff.plugins.attention.scaled_dot_product; choose another",
    ),
    "name that is an alias": (
        changed(('"planted"', '"swish"')),
        "the name 'swish' of swish from broken.py is already an alias of silu from "
        "bakeoff.plugins.activations.silu; choose another",
    ),
    "alias that clashes": (
        changed(("properties={", 'aliases=("relu",), properties={')),
        "the name 'relu' of planted from broken.py is already a name from "
        "bakeoff.plugins.activations.relu; choose another",
    ),
    "alias in capitals": (
        changed(("properties={", 'aliases=("Mine",), properties={')),
        "metadata.aliases: got 'Mine' (str), expected lower_snake_case",
    ),
    "approximation of nothing": (
        changed(("        options={", '        approximates="scaled_dot",\n        options={')),
        "planted: approximates: got 'scaled_dot', expected another registered attention; did you "
        "mean scaled_dot_product?",
    ),
    "identity with nothing": (
        changed(
            ("        options={", '        identities=(Identity("x", equals="nothing_such"),),\n'
             "        options={")
        ),
        "planted: identity 'x': got 'nothing_such', expected another registered attention",
    ),
    "identity with an unknown option": (
        changed(
            ("        options={", '        identities=(Identity("x", equals="dot_product", '
             'options=lambda shape: {"windw": 1}),),\n        options={')
        ),
        "planted has no option 'windw'; did you mean window?",
    ),
    "masks of an unknown kind": (
        changed(('"reference": reference', '"reference": Forward(reference, masks="some")')),
        "forwards['reference'].masks: got 'some' (str), expected one of none, keys, full",
    ),
    "complexity of an unknown kind": (
        changed(('"reference": reference', '"reference": Forward(reference, complexity="N^5")')),
        "forwards['reference'].complexity: got 'N^5' (str), expected None or one of 1, N,",
    ),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own, so that origins are short."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(*paths: Path | str) -> bakeoff.Catalog:
    return bakeoff.load(list(paths), entry_points=False, pyproject=False)


def test_the_source_is_right(folder: Path) -> None:
    catalog = load(write(folder, "good.py"))
    assert catalog.problems == ()
    assert catalog.origins["planted"] == "good.py"


@pytest.mark.parametrize("what", BROKEN)
def test_a_problem_is_told(folder: Path, catalog: bakeoff.Catalog, what: str) -> None:
    source, message = BROKEN[what]
    broken, good = write(folder, "broken.py", source), write(folder, "good.py", GOOD)
    found = load(broken, good)
    assert [p.origin for p in found.problems] == ["broken.py"], found.problems
    assert message in " ".join(found.problems[0].reason.split())
    assert list(found) == [*catalog, "good_neighbour"]


def test_the_traceback_of_an_import_is_kept(folder: Path) -> None:
    (problem,) = load(write(folder, "broken.py", "import no_such_module\n")).problems
    assert "Traceback" in problem.traceback
    assert 'broken.py", line 1' in problem.traceback


def test_two_misspelt_hooks_are_both_told(folder: Path) -> None:
    source = changed(("def bakeoff_variants", "def bakeoff_variant")) + (
        "\n\n@hookimpl\ndef bakeof_suites():\n    return []\n"
    )
    problems = load(write(folder, "broken.py", source)).problems
    assert sorted(p.reason for p in problems) == [
        "hook: got 'bakeof_suites', expected a known hook; did you mean bakeoff_suites?",
        "hook: got 'bakeoff_variant', expected a known hook; did you mean bakeoff_variants?",
    ]


def test_several_faults_of_one_variant_are_all_told(folder: Path) -> None:
    source = changed(('"planted"', '"Planted"'), ('tags=("soft",)', 'tags=("sof",)'))
    reasons = [p.reason for p in load(write(folder, "broken.py", source)).problems]
    assert any("lower_snake_case" in reason for reason in reasons)
    assert any("did you mean soft?" in reason for reason in reasons)


def test_a_duplicate_names_both_origins(folder: Path) -> None:
    found = load(write(folder, "one.py"), write(folder, "two.py"))
    assert found.origins["planted"] == "one.py"
    (problem,) = found.problems
    assert problem.origin == "two.py"
    assert problem.reason == (
        "the name 'planted' of planted from two.py is already a name from one.py; choose another"
    )


def test_a_missing_file(folder: Path) -> None:
    (problem,) = load("nowhere.py").problems
    assert problem.origin == "nowhere.py"
    assert re.fullmatch(
        r"import failed: FileNotFoundError: got \S+nowhere.py, expected the path of a Python file",
        problem.reason,
    )


def test_a_file_that_is_not_python(folder: Path) -> None:
    (problem,) = load(write(folder, "plugin.txt")).problems
    assert "expected a Python file that ends in .py" in problem.reason


def test_what_depends_on_a_broken_variant_is_left_out_too(folder: Path) -> None:
    first = write(folder, "first.py", changed(('"planted"', '"first_one"'), ('"soft"', '"sof"')))
    second = write(
        folder,
        "second.py",
        changed(("        options={", '        approximates="first_one",\n        options={')),
    )
    found = load(first, second)
    assert "planted" not in found
    assert [p.origin for p in found.problems] == ["first.py", "second.py"]


def test_with_variants_raises_the_same(catalog: bakeoff.Catalog) -> None:
    relu = catalog["relu"]
    with pytest.raises(
        bakeoff.InvalidVariantError, match="the name 'relu' of relu from with_variants is already"
    ):
        catalog.with_variants(relu)
    with pytest.raises(bakeoff.InvalidVariantError, match=r"got 3 \(int\)"):
        catalog.with_variants(3)  # type: ignore[arg-type]
