"""The error of data that a person can act on."""


class DataError(Exception):
    """Data cannot be used; the message says file and row, what is wrong and what to do."""
