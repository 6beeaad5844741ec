"""The two exceptions of this folder: one for bad input, one for defects of the broker.

Kafka's error codes, which answer requests, are in `odradek.errors`.
"""


class DecodeError(ValueError):
    """The input is not a valid message of its type: a peer sent it wrong, or a file is damaged."""


class MessageError(AssertionError):
    """A declaration contradicts itself, or a message is used in a version that it does not have: a defect of the
    broker."""
