"""Every error a user can meet; messages name the node, the value, what is allowed and the fix."""

import re


def message_of(error: Exception) -> str:
    """What a command prints of an error: a damaged file may hold names of any length."""
    return re.sub(r"(\S{200})\S{50,}", r"\1...", str(error))


class MpqError(ValueError):
    """Base of all errors caused by the user or the environment; the CLI prints it and exits 2."""


class InvalidValueError(MpqError):
    """A value that is out of range, of the wrong type, or inconsistent with another one."""


class UnsupportedOperatorError(MpqError):
    """The model holds an operator, or a form of one, that has no integer counterpart."""


class CalibrationError(MpqError):
    """Calibration data is missing, has the wrong shape or dtype, or yields no usable range."""


class DoesNotFitError(MpqError):
    """The network does not fit the flash, RAM, scratch or stack it was given.

    Attributes
    ----------
    flash_bytes, ram_bytes: what the linked program would need; None when it was never linked.
    """

    def __init__(
        self, message: str, *, flash_bytes: int | None = None, ram_bytes: int | None = None
    ) -> None:
        super().__init__(message)
        self.flash_bytes = flash_bytes
        self.ram_bytes = ram_bytes


class AccumulatorOverflowError(MpqError):
    """An accumulator cannot be proven to stay inside 32 bits."""


class EnvironmentVersionError(MpqError, ImportError):
    """An installed package has a version that is known not to work."""


class ToolError(MpqError):
    """An external program (compiler, linker, flasher) is missing, failed or timed out."""


class BoardFaultError(MpqError):
    """The firmware faulted, hung or broke the protocol, on the emulated or the real board."""
