"""What a chart is drawn for: theme, size and kind of file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """Colours of one theme; those of static/css/tokens.css."""

    surface: str
    text: str
    muted: str
    line: str
    series: tuple[str, str, str, str]
    warn: str


LOOKS = {
    "light": Look(
        "#ffffff", "#1f2226", "#5c6067", "#e2dfd7", ("#7d5205", "#2f5f9e", "#5f6670", "#0f7268"), "#85500a"
    ),
    "dark": Look(
        "#1b1e24", "#e7e5e0", "#a9adb4", "#323841", ("#e4b654", "#8ab8f2", "#a6adb7", "#5fcabb"), "#efbd6a"
    ),
}
MEDIA = {
    "svg": "image/svg+xml",
    "png": "image/png",
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
}


@dataclass(frozen=True)
class Frame:
    """What a chart is drawn for: a theme, a width in pixels, and whether it must stand alone."""

    theme: str = "light"
    size: str = "wide"
    ext: str = "svg"

    @property
    def look(self) -> Look:
        return LOOKS[self.theme]

    @property
    def is_known(self) -> bool:
        return self.theme in LOOKS and self.size in ("narrow", "medium", "wide") and self.ext in MEDIA

    @property
    def is_narrow(self) -> bool:
        return self.size == "narrow"
