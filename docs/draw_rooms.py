"""Draw docs/rooms.svg: the rooms of the code, and which room imports which, read from the source.

A room is a folder of simclr_rhd/, or a module beside them; loss.py is none, as it only names what `ssl` has.
Each stands on the diagonal, after all rooms that it imports. A dot marks that the room of its row imports the
room of its column.

.venv/bin/python docs/draw_rooms.py
"""

import ast
from graphlib import TopologicalSorter
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "simclr_rhd"
TARGET = ROOT / "docs" / "rooms.svg"
STEP, BOX, CAPTION = 74, (92, 30), 430  # px: of a room to the next (x), of a box, of the text beside a box
ROW = 46  # px from a room to the next (y)


def imported(path: Path) -> set[str]:
    """The rooms that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE.name:
            parts = (node.module or "").split(".")[1:]
            found |= {parts[0]} if parts else {alias.name for alias in node.names}
    return found


def rooms() -> dict[str, set[str]]:
    """{room: the rooms that it imports}, each after those."""
    places = sorted(path.parent for path in PACKAGE.glob("*/__init__.py"))
    places += sorted(path for path in PACKAGE.glob("*.py") if path.stem not in ("__init__", "loss"))
    names = {place.stem for place in places}
    needed = {}
    for place in places:
        files = place.rglob("*.py") if place.is_dir() else [place]
        needed[place.stem] = set().union(*map(imported, files)) & names - {place.stem}
    sorter = TopologicalSorter(needed)
    sorter.prepare()
    order: list[str] = []
    while ready := sorted(sorter.get_ready()):
        order += ready
        sorter.done(*ready)
    return {name: needed[name] for name in order}


def purpose(room: str) -> str:
    """The first line of a room's docstring."""
    folder = PACKAGE / room
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n")[0]


def svg() -> str:
    """The whole of docs/rooms.svg."""
    needed = rooms()
    place = {room: (20 + STEP * i, 20 + ROW * i) for i, room in enumerate(needed)}  # upper left corners
    lines, dots, boxes = [], [], []
    for room, (x, y) in place.items():
        middle = y + BOX[1] / 2
        columns = [place[other][0] + BOX[0] / 2 for other in needed if other in needed[room]]
        if columns:
            lines.append(f'<path d="M{min(columns)} {middle}H{x}"/>')
        below = [place[other][1] + BOX[1] / 2 for other in needed if room in needed[other]]
        if below:
            lines.append(f'<path d="M{x + BOX[0] / 2} {y + BOX[1]}V{max(below)}"/>')
        dots += [f'<circle cx="{column}" cy="{middle}" r="5"/>' for column in columns]
        boxes.append(f'<rect x="{x}" y="{y}" width="{BOX[0]}" height="{BOX[1]}" rx="5"/>')
        boxes.append(f'<text class="room" x="{x + BOX[0] / 2}" y="{middle + 5}">{escape(room)}</text>')
        boxes.append(f'<text x="{x + BOX[0] + 10}" y="{middle + 5}">{escape(purpose(room))}</text>')
    width, height = 20 + STEP * len(needed) + CAPTION, 30 + ROW * len(needed)
    title = "The rooms of simclr_rhd/ on a diagonal; a dot: the room of its row imports that of its column"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
            f"<title>{title}</title>",
            "<style>text{font:14px sans-serif;fill:#333}.room{font-weight:bold;text-anchor:middle}"
            "path{stroke:#9ab;stroke-width:1.5;fill:none}circle{fill:#1f6f8b}"
            "rect{fill:#e4f1f5;stroke:#1f6f8b}.page{fill:#fff;stroke:none}</style>",
            f'<rect class="page" width="{width}" height="{height}"/>',
            *lines,
            *dots,
            *boxes,
            "</svg>",
            "",
        ]
    )


if __name__ == "__main__":
    TARGET.write_text(svg(), encoding="utf-8")
    print(f"wrote {TARGET.relative_to(ROOT)}")
