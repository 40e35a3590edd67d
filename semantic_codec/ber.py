"""A device's bit error rate, estimated from the headers that its frames bring anyway.

A decoded header, coded again, is a pilot: 144 known bits, of which the errors can be counted. Errors among n bits are
binomial, so a Beta prior stays a Beta posterior (Gelman et al., Bayesian Data Analysis, section 2.4). Old evidence is
discounted by a constant factor per frame (the power prior of Ibrahim and Chen 2000; West and Harrison's discount):

    errors <- f * errors + errors of this frame        mean = (a + errors) / (a + b + bits)
    bits   <- f * bits   + bits of this frame
"""

from __future__ import annotations

from semantic_codec.errors import InvalidRequest

PRIOR_ERRORS, PRIOR_BITS = 0.5, 20.0
"""a and a + b. Worth a seventh of a frame: forgotten after one, but the mean is never 0."""

FORGETTING = 61 / 64
"""Half of the evidence is 14.4 frames old or younger; a long steady state weighs as 42 frames would."""

FAILURE_BITS, FAILURE_ERRORS = 144, 26
"""A header that could not be read counts as a pilot of BER 0.18: those that are lost have 24 to 30 errors in 144."""


class BerEstimator:
    """The estimate for one device.

    >>> link = BerEstimator()
    >>> for _ in range(32):
    ...     _ = link.update(errors=7, bits=144)
    >>> round(link.mean, 3)
    0.048
    """

    def __init__(self, forgetting: float = FORGETTING):
        if not 0 < forgetting < 1:
            raise InvalidRequest(
                f"forgetting is {forgetting}", allowed="above 0, below 1", fix=f"leave it at {FORGETTING}"
            )
        self._forgetting = forgetting
        self._errors = self._bits = 0.0

    def update(self, errors: int, bits: int) -> float:
        """A header was read: `errors` of its `bits` received bits were wrong. Returns the mean, now that this is known."""
        self._errors = self._forgetting * self._errors + errors
        self._bits = self._forgetting * self._bits + bits
        return self.mean

    def failure(self) -> None:
        """A frame that is known to be this device's came, and its header could not be read."""
        self.update(FAILURE_ERRORS, FAILURE_BITS)

    @property
    def mean(self) -> float:
        """Posterior mean of the bit error rate: above 0, at most 0.5."""
        return min(0.5, (PRIOR_ERRORS + self._errors) / (PRIOR_BITS + self._bits))
