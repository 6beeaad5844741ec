"""How a command fails: with one sentence on stderr, and an exit code.

Exit code 0 is success, 1 a failure at run time (no broker, a refusal, a lost connection), 2 wrong use (an invalid
option, file or setting). The sentence says what the user can do, where that is known: the client's exception says what
failed, and this module adds the command or option that helps.
"""

from __future__ import annotations

from odradek.client.failures import (
    AdvertisedAddressUnreachable,
    ClientFailed,
    InstanceFenced,
    InvalidArgument,
    NoAddress,
    NoBrokerAnswers,
    NoProducerId,
    UnknownGroup,
    UnknownTopic,
)

RUN_TIME = 1
WRONG_USE = 2


class CommandFailed(Exception):
    """Ends the command with exit code 1; its text is the whole sentence."""

    exit_code = RUN_TIME


class WrongUse(CommandFailed):
    """Ends the command with exit code 2."""

    exit_code = WRONG_USE


FAILED = (CommandFailed, ClientFailed)


def exit_code(failure: Exception) -> int:
    """The exit code of a failure of the command, or of its client."""
    if isinstance(failure, CommandFailed):
        return failure.exit_code
    return WRONG_USE if isinstance(failure, InvalidArgument) else RUN_TIME


def told(failure: BaseException) -> str:
    """The failure's sentence, with advice on it or on its cause."""
    cause: BaseException | None = failure
    while cause is not None:
        advice = _advice(cause)
        if advice:
            return f"{str(failure).rstrip('.')}{advice}"
        cause = cause.__cause__
    return str(failure)


def _advice(failure: BaseException) -> str:
    match failure:
        case NoBrokerAnswers():
            return (
                ": is a broker running there? Start one with `odradek serve`, or name another with "
                "--bootstrap-server HOST:PORT."
            )
        case AdvertisedAddressUnreachable():
            return "; check the broker's advertised.listeners (`odradek serve --advertise`)."
        case NoAddress():
            return "; --bootstrap-server takes HOST:PORT, or several with commas between."
        case UnknownTopic():
            return f"; create it with `odradek topic create {failure.topic}`."
        case UnknownGroup():
            return "; `odradek group list` shows them."
        case InstanceFenced():
            return ": give each its own --instance-id."
        case NoProducerId():
            return "; --no-idempotence does without."
    return ""
