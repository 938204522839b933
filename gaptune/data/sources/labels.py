"""Labels, class names and prompt templates, for all sources alike; names and templates lie beside the images."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Formatter

import numpy as np

from gaptune.data.sources.base import read_text, storable
from gaptune.data.sources.captions import is_missing
from gaptune.errors import UserError, brief, did_you_mean

CLASS_NAMES = "classnames.txt"
TEMPLATES = "zeroshot_classification_templates.txt"

PROMPTS = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""open_clip's ``SIMPLE_IMAGENET_TEMPLATES``, for data that bring no templates of their own."""

Label = int | str | None
"""An index into the class names, a class's name, or nothing."""

_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.0*)?")  # 007 is a name
_TRUTHS = {"false": 0, "true": 1}
_MOST_UNNAMED = 10_000  # classes without names: more are numbers of another kind
_NAMED = 3  # in a message

_log = logging.getLogger(__name__)


def normal_label(value: object) -> Label:
    """A label as an index, a name or nothing.

    Whole numbers are indices, also as floats (pandas makes floats of integers where one is missing), as booleans and
    as texts. Other texts are names, without white space around them. Null, NaN and blank are nothing.

    Raises:
        UserError: It is something else, such as a list or 0.5. The message lacks the place.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if is_missing(value):
        return None
    if isinstance(value, str):
        text = storable(value).strip()
        return int(text.partition(".")[0]) if _WHOLE.fullmatch(text) else text or None
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    raise UserError(f"{brief(value, 40)} is no label: expected a whole number or a name")


class Classes:
    """Names of classes, and the index of each label.

    Two classes of one name cause a warning: their texts are equal.

    Args:
        names: In the order of the indices.
        origin: Where they are from, for messages.
        missing: An index that stands for no label, such as Hugging Face's -1.
    """

    def __init__(self, names: Sequence[str], origin: str, missing: int | None = None) -> None:
        self.names = tuple(names)
        self._origin = origin
        self._missing = missing
        self._numbers = {name: number for number, name in enumerate(self.names)}
        self._twice = [name for name, count in Counter(self.names).items() if count > 1]
        if self._twice:
            named = ", ".join(map(repr, self._twice[:_NAMED]))
            _log.warning("%s: several classes have one name: %s", origin, named)

    @classmethod
    def of_labels(cls, labels: Iterable[Label], origin: str) -> Classes:
        """The classes of labels that come without names: 0 to the largest, or the sorted names.

        Raises:
            UserError: They are numbers that cannot be indices.
        """
        found = {label for label in labels if label is not None}
        if not all(isinstance(label, int) for label in found):
            return cls(sorted(map(str, found)), origin)
        indices = sorted(int(label) for label in found)
        if indices and (indices[0] < 0 or indices[-1] >= _MOST_UNNAMED):
            raise UserError(
                f"{origin}: labels go from {indices[0]} to {indices[-1]}: expected indices from 0 to at most "
                f"{_MOST_UNNAMED - 1}, names, or indices into a {CLASS_NAMES}"
            )
        return cls([str(number) for number in range(indices[-1] + 1)] if indices else [], origin)

    def index(self, label: Label) -> int | None:
        """The index of a label as ``normal_label`` gives it.

        Raises:
            UserError: There is no such class. The message lacks the label's place.
        """
        if label is None or label == self._missing:
            return None
        if isinstance(label, str):
            if label in self._twice:
                raise UserError(f"{label!r} is the name of several classes of {self._origin}: use indices")
            if (number := self._numbers.get(label, _TRUTHS.get(label.casefold()))) is not None:
                return number
            hint = did_you_mean(label, self.names)
            raise UserError(f"{brief(label)} is neither an index nor one of the names of {self._origin}{hint}")
        if str(label) in self._numbers and not all(map(_WHOLE.fullmatch, self.names)):
            return self._numbers[str(label)]  # a name like 7 among others that are no numbers
        if not 0 <= label < len(self.names):
            raise UserError(f"label {label} is not an index into the {len(self.names)} classes of {self._origin}")
        return label


def read_class_names(folder: Path) -> tuple[str, ...] | None:
    """Class names, one a line in the order of the labels; None where no file gives them.

    Raises:
        UserError: The file cannot be read, has no names, or a blank line between names.
    """
    lines = _lines(folder / CLASS_NAMES)
    if lines is None:
        return None
    for number, name in lines.items():
        if number > len(lines):
            blank = next(line for line in range(1, number) if line not in lines)
            raise UserError(f"is blank, but {name!r} follows: a class a line", file=folder / CLASS_NAMES, line=blank)
    return tuple(lines.values())


def read_prompts(folder: Path) -> tuple[str, ...]:
    """Prompt templates, one a line, with ``{c}`` or ``{}`` for the class; open_clip's simple ones where there are none.

    Raises:
        UserError: A template has no place for the class, several, or one with a conversion or a format.
    """
    lines = _lines(folder / TEMPLATES)
    if lines is None:
        return PROMPTS
    for number, line in lines.items():
        try:
            fields = [tuple(rest) for _, *rest in Formatter().parse(line) if rest[0] is not None]
        except ValueError:
            fields = []
        if fields not in ([("c", "", None)], [("", "", None)]):
            raise UserError(
                f"{line!r} must have {{c}} once, for the class, and no other braces",
                file=folder / TEMPLATES,
                line=number,
            )
    return tuple(line.replace("{c}", "{}") for line in lines.values())


def _lines(file: Path) -> Mapping[int, str] | None:
    """The lines that are not blank, by their number from 1; None without a file."""
    if not file.exists():
        return None
    numbered = enumerate(read_text(file).split("\n"), 1)
    lines = {number: line.strip() for number, line in numbered if line.strip()}
    if not lines:
        raise UserError("has no lines", file=file)
    return lines
