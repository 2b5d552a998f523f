"""Ratios inside one run, never times: what a decision costs next to what it is made of, and next to its peers."""
