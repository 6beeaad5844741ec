"""The exceptions of this folder: two for bad input, one for defects of the broker.

Kafka's error codes, which answer requests, are in `odradek.errors`.
"""


class DecodeError(ValueError):
    """The input is not a valid message of its type: a peer sent it wrong, or a file is damaged."""


class TooManyElements(DecodeError):
    """The input may be a message, but its arrays have more elements than were allowed."""


class MessageError(AssertionError):
    """A declaration contradicts itself, or a message is used in a version that it does not have: a defect of the
    broker."""
