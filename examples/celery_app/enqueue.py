"""Enqueues two issues of a newsletter, and says what became of each."""

from tasks import ADDRESSES, governor, send_newsletter

PATIENCE_SECONDS = 120


def main() -> None:
    """Issue 47 goes to all at once; issue 48 a few seconds later, but not to Cleo: she opts out while it waits."""
    for customer in ADDRESSES:
        governor().consent.opt_in(customer, channel="email", topic="newsletter", category="marketing")
    for issue in (47, 48):
        results = {customer: send_newsletter.delay(customer, issue) for customer in ADDRESSES}
        if issue == 48:
            governor().consent.opt_out("cleo")
        for customer, result in results.items():
            outcome = result.get(timeout=PATIENCE_SECONDS, propagate=False)
            print(f"{customer:5} {issue}  {outcome}")
    governor().close()


if __name__ == "__main__":
    main()
