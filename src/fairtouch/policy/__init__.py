"""What is fair: the policy file, its packs, and the rules that they become."""

from fairtouch.policy.load import Policy

__all__ = ["Policy"]
