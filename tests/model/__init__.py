"""A brute-force reference model of the decisions, and the traffic it is compared on."""
