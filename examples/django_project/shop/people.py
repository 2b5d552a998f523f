"""Who the shop's customers are; in a real one a table."""

CUSTOMERS = {
    "ada@example.com": "customer-1",
    "bob@example.com": "customer-2",
    "cleo@example.org": "customer-3",
    "dan@example.net": "customer-4",
    "gone@example.net": "customer-5",
}


def customer_of(address: str) -> str | None:
    """The customer to whom an address belongs."""
    return CUSTOMERS.get(address)
