"""A shop with a newsletter and receipts."""
