"""What tests of programs that use fairtouch need: a clock that stands still."""

from fairtouch.testing.clock import FrozenClock

__all__ = ["FrozenClock"]
