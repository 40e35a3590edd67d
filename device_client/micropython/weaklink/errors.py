"""The refusals of the Python client, as far as a device meets them."""


class WeaklinkError(Exception):
    """Base of all refusals: names the problem with its value, what is allowed, and the fix."""

    def __init__(self, problem, allowed, fix):
        super().__init__("%s; allowed: %s; fix: %s" % (problem, allowed, fix))
        self.problem, self.allowed, self.fix = problem, allowed, fix


class InvalidRequest(WeaklinkError):
    """A value of the request is outside what is allowed."""


class NotFound(WeaklinkError):
    """A bundle, codec, version or level that does not exist."""


class BundleError(WeaklinkError):
    """A bundle's file is damaged, or no encoder at all."""


class EncoderMismatch(WeaklinkError):
    """The device's encoder does not match the edge's decoder."""


class Unavailable(WeaklinkError):
    """The edge is busy, or cannot be reached."""


class DeadlineExceeded(WeaklinkError):
    """No answer in time."""
