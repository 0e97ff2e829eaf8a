"""An extension of Griffe: the comment at a field of a class is its description."""

import griffe


class Comments(griffe.Extension):
    """Takes what stands behind a field, or else in the lines above it."""

    def on_attribute_instance(self, *, attr, **kwargs):
        if attr.docstring or not (attr.annotation and attr.parent.is_class):
            return
        lines = attr.lines_collection[attr.filepath]
        if text := comment(lines, attr.lineno - 1, attr.endlineno - 1):
            place = {"lineno": attr.lineno, "parent": attr}
            attr.docstring = griffe.Docstring(text, **place)


def comment(lines: list[str], first: int, last: int) -> str:
    """The comment of the field in these lines; "" if it has none."""
    _, mark, behind = lines[last].partition("  # ")
    if mark:
        return behind.strip()
    above = []
    while first > 0 and lines[first - 1].lstrip().startswith("# "):
        first -= 1
        above.insert(0, lines[first].lstrip().removeprefix("# "))
    return " ".join(above)
