-- From version 1 to 2: the newest entries of each customer move into one row, written as they come.
-- What stands in `entries` stays there: a head says only since when it is older.

CREATE TABLE heads (
    number   INTEGER PRIMARY KEY,
    customer BLOB    NOT NULL UNIQUE,
    older    INTEGER NOT NULL,
    instants BLOB    NOT NULL,
    kinds    BLOB    NOT NULL,
    details  BLOB    NOT NULL,
    sum      INTEGER NOT NULL -- CRC-32 of the others
) STRICT;

INSERT INTO heads (customer, older, instants, kinds, details, sum)
SELECT customer, max(at), x'', x'', x'', max(at) & 4294967295 FROM entries GROUP BY customer;
