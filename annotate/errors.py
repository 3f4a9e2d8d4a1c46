"""The one exception that the site raises on purpose; pages turn it into a message at the edge."""


class TouchstoneError(Exception):
    """Something a person can put right: the message says what is wrong, where, and what to do."""

    def __init__(self, message: str, *, code: str = "invalid") -> None:
        super().__init__(message)
        self.code = code
