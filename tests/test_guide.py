"""What the guide shows, run as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).resolve().parent.parent / "docs" / "guide"


@pytest.mark.filterwarnings("ignore")  # those of transformers
def test_a_variant_in_your_model(capsys: pytest.CaptureFixture[str]) -> None:
    """All of its Python in one go; the last three lines of the first part are the point."""
    pytest.importorskip("transformers")
    text = (GUIDE / "in_your_model.md").read_text(encoding="utf-8")
    first, *rest = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(first.rstrip().rpartition("\n\n")[2].splitlines()) == 3
    scope: dict[str, object] = {}
    for part in (first, *rest):
        exec(part, scope)
    assert capsys.readouterr().out == "torch.Size([2, 20])\n"
