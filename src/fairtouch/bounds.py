"""Every limit of the library in one place: nothing that comes from outside is unbounded.

The numbers are generous for real use and small enough that hostile or mistaken input costs little. They are checked
where the value enters: touches when they are made, policies when they are loaded.
"""

from typing import Final

TEXT_LENGTH_MAX: Final = 256  # characters in an id, a customer, a topic, a campaign, a subject
NAME_LENGTH_MAX: Final = 64  # characters in a rule, channel, category or namespace
ADDRESS_LENGTH_MAX: Final = 320  # RFC 5321 section 4.5.3.1: 64 of local part, "@", 255 of domain
PATH_OCTETS_MAX: Final = 254  # of a mailbox; RFC 5321 section 4.5.3.1.3: 256 with the brackets around it
ZONE_LENGTH_MAX: Final = 64  # the longest IANA name has 32 characters
TAGS_MAX: Final = 16  # tags of one touch

CAPS_MAX: Final = 64  # caps and cooldowns of one policy, packs included
RULES_MAX: Final = 256  # rules of one policy, packs included
SELECTION_MAX: Final = 256  # values behind one key of a selection
WINDOWS_MAX: Final = 12  # open windows of one weekday
ZONES_MAX: Final = 16  # candidate zones of a customer whose zone is unknown
WISHES_MAX: Final = 16  # a customer's own caps
GROUPS_MAX: Final = 32  # groups that a customer belongs to
PERIOD_DAYS_MAX: Final = 36_525  # the length of a period, an expiry or the horizon: a hundred years
LIMIT_MAX: Final = 1_000_000  # touches that a cap may admit
POLICY_BYTES_MAX: Final = 1_048_576  # a policy file
EVIDENCE_BYTES_MAX: Final = 16_384  # the evidence of one consent, as JSON
IMPORT_ROWS_MAX: Final = 10_000_000  # rows of one imported consent file
TOKEN_LENGTH_MAX: Final = 1_024  # characters of an unsubscribe token
LINK_OCTETS_MAX: Final = 900  # of a URL in a header: a line ends at 998 (RFC 5322 section 2.1.1), and URLs stay whole

LEASE_SECONDS_MAX: Final = 86_400  # a reservation that nobody settles for a day is in doubt
PAYLOAD_BYTES_MAX: Final = 65_536  # what is kept with a deferred touch, as JSON
SPREAD_SECONDS_MAX: Final = 86_400  # over which deferred touches that become due at once are spread
ATTEMPTS_MAX: Final = 100  # times that the send of a deferred touch may fail
CLAIM_SIZE: Final = 20  # deferred touches that a run claims together: what a run that dies keeps from the others
DROPPED_MAX: Final = 1_000  # touches that one report holds, where nobody is told of them one by one
BATCH_SIZE: Final = 500  # touches that reserve_many judges and commits together
SCREEN_SIZE: Final = 50  # touches that check_many judges together: few enough to stay in a processor's cache
HORIZON_DAYS: Final = 400  # how far ahead next_allowed_at looks
REPLANS_MAX: Final = 8  # plans made anew before a store that keeps changing its answer is called broken
