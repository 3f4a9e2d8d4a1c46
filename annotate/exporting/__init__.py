"""Taking data out: labels for training, every vote, and the pool, with a card that says what they are."""

from annotate.exporting.card import card
from annotate.exporting.files import Wanted, begin, export, stream, wanted
from annotate.exporting.formats import FORMATS, MEDIA
from annotate.exporting.kinds import KINDS, LEFT_OUT, Export
from annotate.exporting.pages import Filters

__all__ = [
    "FORMATS",
    "KINDS",
    "LEFT_OUT",
    "MEDIA",
    "Export",
    "Filters",
    "Wanted",
    "begin",
    "card",
    "export",
    "stream",
    "wanted",
]
