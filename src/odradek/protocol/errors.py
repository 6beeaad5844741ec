"""What goes wrong between bytes and messages, by whose mistake it is.

Role: the exceptions of this folder. Kafka's error codes, which answer requests, are `odradek.errors`'.
"""


class DecodeError(ValueError):
    """The input is not the message it was said to be: a peer's mistake, or a damaged file's."""


class TooManyElements(DecodeError):
    """The input may be a message, but its arrays have more elements than were allowed."""


class MessageError(AssertionError):
    """A declaration contradicts itself, or a message is asked for in a version that it does not have: our mistake."""
