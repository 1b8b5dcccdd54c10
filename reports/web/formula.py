"""Formulas: LaTeX as MathML, which browsers set themselves, offline and without a script."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from functools import cache
from xml.etree.ElementTree import Element

__all__ = ["formula"]

#: What MathML Core can set. Whatever else a formula asks for is left out and its content kept: a
#: link, a style or a script in the formula of a plugin stays text.
_TAGS = (
    "math mrow mi mn mo mtext mspace mfrac msqrt mroot mstyle msub msup msubsup munder mover "
    "munderover mmultiscripts mprescripts mtable mtr mtd mpadded mphantom"
)
#: Attributes with the values that they may have; none can hold markup.
_ATTRIBUTES = {
    "stretchy": ("true", "false"),
    "fence": ("true", "false"),
    "form": ("prefix", "postfix", "infix"),
    "displaystyle": ("true", "false"),
    "scriptlevel": ("0", "1", "2"),
    "accent": ("true", "false"),
    "mathvariant": ("normal",),
    "width": ("0.167em", "0.222em", "0.278em", "1em", "2em"),
}


@cache
def formula(latex: str) -> str:
    r"""A formula as MathML; what is no LaTeX stands as it was written.

    Args:
        latex: LaTeX, without the dollar signs.

    Example:
        >>> print(formula(r"\frac{x}{2}"))
        <math display="block"><mrow><mfrac><mrow><mi>x</mi></mrow>...</mfrac></mrow></math>
        >>> print(formula(r"\frac{"))
        <code>\frac{</code>
    """
    from latex2mathml.converter import convert_to_element

    try:
        root = convert_to_element(latex, display="block")
    except Exception:  # whatever a parser says of a text that is no LaTeX; it is then shown as text
        return f"<code>{html.escape(latex)}</code>"
    body = "".join(part for child in root for part in _markup(child))
    return f'<math display="block">{body}</math>'


def _markup(element: Element) -> Iterator[str]:
    """The element, by our own hand: the library does not escape what comes from the formula."""
    tag, text = element.tag, html.unescape(element.text or "")
    if tag in ("mi", "mo") and re.fullmatch(r"\\?[A-Za-z]{2,}", text):
        # A function's name, known to the library or not: set as a name, without an operator's gaps.
        tag, text = "mi", text.removeprefix("\\")
    known = tag in _TAGS.split()
    if known:
        kept = "".join(
            f' {name}="{value}"'
            for name, value in element.attrib.items()
            if value in _ATTRIBUTES.get(name, ())
        )
        yield f"<{tag}{kept}>"
    yield html.escape(text)
    for child in element:
        yield from _markup(child)
        yield html.escape(html.unescape(child.tail or ""))
    if known:
        yield f"</{tag}>"
