-- Deferred touches: what an app wants sent later. Made when a queue is first used, so a file without one has none of this,
-- and its layout has the same number either way.
-- Instants are milliseconds since 1970-01-01 UTC. Content holds customer, address and payload in clear, until it is sent.

CREATE TABLE IF NOT EXISTS deferrals (
    queue    BLOB    NOT NULL, -- the digest of a namespace
    item     BLOB    NOT NULL, -- the customer's digest, and one of the touch's id
    due_at   INTEGER NOT NULL, -- or when its claim ends
    token    BLOB    NOT NULL, -- of its last claim
    deferred INTEGER NOT NULL,
    failed   INTEGER NOT NULL,
    content  BLOB    NOT NULL
) STRICT;

CREATE UNIQUE INDEX IF NOT EXISTS deferrals_once ON deferrals (queue, item);

CREATE INDEX IF NOT EXISTS deferrals_due ON deferrals (queue, due_at, item);
