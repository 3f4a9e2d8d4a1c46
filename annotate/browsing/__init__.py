"""The read path of the data browser: what an address asks for, to one page of rows and what to say about them."""

from __future__ import annotations

from annotate.browsing.filters import LISTINGS, Listing
from annotate.browsing.keyset import Page, page_of
from annotate.browsing.why import why

__all__ = ["LISTINGS", "Listing", "Page", "page_of", "why"]
