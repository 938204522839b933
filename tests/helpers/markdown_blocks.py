"""Code blocks of a Markdown page, and the commands in them."""

import re
import shlex
from dataclasses import dataclass

FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>\w*)")
MARK = re.compile(r"<!-- not run: (?P<reason>.+) -->")
LIST = re.compile(r"(\d+\.|-) ")


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        kind: The language of the fence; ``bash`` for a block that is indented.
        text: Its lines.
        line: The number of its first line.
        skipped: Why it is not run, from the comment before it; None for a block that is run.
    """

    kind: str
    text: str
    line: int
    skipped: str | None

    def commands(self) -> list[list[str]]:
        """The words of each command, without comments."""
        joined = self.text.replace("\\\n", " ")
        return [words for words in (shlex.split(line, comments=True) for line in joined.splitlines()) if words]


def blocks(text: str) -> list[Block]:
    """The blocks of a page, in order."""
    lines, found, number, skipped, in_list = text.splitlines(), [], 0, None, False
    while number < len(lines):
        line, start = lines[number], number + 1
        if fence := FENCE.match(line):
            end = next(at for at in range(start, len(lines)) if lines[at].strip() == "```")
            inner = [each.removeprefix(fence["indent"]) for each in lines[start:end]]
            found.append(Block(fence["kind"], "\n".join(inner) + "\n", start + 1, skipped))
            number, skipped = end + 1, None
        elif line.startswith("    ") and not in_list:
            end = next((at for at in range(start, len(lines)) if not lines[at].startswith("    ")), len(lines))
            inner = [each.removeprefix("    ") for each in lines[number:end]]
            found.append(Block("bash", "\n".join(inner) + "\n", start, skipped))
            number, skipped = end, None
        else:
            if line and not line.startswith(" "):
                in_list = bool(LIST.match(line))
            if mark := MARK.match(line):
                skipped = mark["reason"]
            number += 1
    return found


def inline_commands(text: str) -> list[list[str]]:
    """The words of each ``gaptune …`` in the prose and tables of a page."""
    prose = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [found.split() for found in re.findall(r"`(gaptune [^`]+)`", prose)]
