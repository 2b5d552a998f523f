"""How fast a provider may be sent to, over all people together: "14/second" for a sender. The one place with a rate.

A pace protects a provider, a cap a person: this room knows no customer, and a governor knows no pace.

Rule 1: no stretch of time as long as the period holds more sends than the rate says, wherever it starts (a moving
window; windows on a grid, fixed or weighted, let through up to twice as many around a boundary, or guess). Rule 2: what
was taken is never given back: an error may slow a sender down, never speed it up.
"""

from fairtouch.pacing.pacer import AsyncPacer, Pacer
from fairtouch.pacing.waiting import TooFast

__all__ = ["AsyncPacer", "Pacer", "TooFast"]
