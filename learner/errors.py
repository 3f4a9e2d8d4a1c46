"""The one exception that learner/ raises for input it cannot work with."""


class LearnerError(ValueError):
    """Wrong shape, not a number, an empty pool, a state of another version: the message says what, where."""
