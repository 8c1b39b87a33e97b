"""The configurations in docs/mesh.md, which the tests run."""

from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "mesh.md"


def snippet(heading):
    """The first fenced block below a heading of the page."""
    _, _, section = PAGE.read_text().partition(f"\n## {heading}\n")
    section, _, _ = section.partition("\n## ")
    _, fence, rest = section.partition("\n```")
    assert fence, f"{PAGE} has no block below {heading!r}"
    return rest.partition("\n")[2].partition("\n```")[0] + "\n"


def filled(text, values):
    """The text with other values. Each key of `values` is in it exactly once."""
    for old, new in values.items():
        assert text.count(old) == 1, f"{old!r} is in {PAGE} {text.count(old)} times"
        text = text.replace(old, new)
    return text
