-- The tables of a fairtouch database, version 1.
-- Instants are milliseconds since 1970-01-01 UTC; customers and addresses are 16-byte digests.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- Who shares this file: a digest of each namespace, one of namespace and secret, and for how long its policy keeps facts.
CREATE TABLE namespaces (
    namespace   TEXT PRIMARY KEY,
    fingerprint BLOB    NOT NULL,
    keep        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Every (channel, category, topic, campaign, tags, event) that ever stood in a ledger, as JSON. Append-only: a number that was
-- lost is never given again, so no entry changes its meaning.
CREATE TABLE kinds (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    spelling TEXT NOT NULL UNIQUE
) STRICT;

-- The ledgers: touches and events, in the order in which a decision reads them.
CREATE TABLE entries (
    customer  BLOB    NOT NULL,
    at        INTEGER NOT NULL,
    id        TEXT    NOT NULL,
    token     BLOB    NOT NULL,
    kind      INTEGER NOT NULL REFERENCES kinds,
    subject   TEXT,
    stage     INTEGER NOT NULL,
    lease_end INTEGER NOT NULL,
    address   BLOB,
    PRIMARY KEY (customer, at, id, token)
) STRICT, WITHOUT ROWID;

-- Idempotency: what stands under an id.
CREATE INDEX entries_by_id ON entries (customer, id);

-- What pruned touches collapse into; a lifetime cap counts them.
CREATE TABLE totals (
    customer BLOB    NOT NULL,
    kind     INTEGER NOT NULL REFERENCES kinds,
    count    INTEGER NOT NULL,
    PRIMARY KEY (customer, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE profiles (
    customer BLOB PRIMARY KEY,
    profile  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The latest instant of each word per scope; an empty text is any, 0 is never.
CREATE TABLE consents (
    customer  BLOB    NOT NULL,
    category  TEXT    NOT NULL,
    channel   TEXT    NOT NULL,
    topic     TEXT    NOT NULL,
    opted_in  INTEGER NOT NULL,
    confirmed INTEGER NOT NULL,
    opted_out INTEGER NOT NULL,
    requested INTEGER NOT NULL,
    PRIMARY KEY (customer, category, channel, topic)
) STRICT, WITHOUT ROWID;

-- Every word with its evidence; append-only.
CREATE TABLE spoken (
    customer BLOB    NOT NULL,
    at       INTEGER NOT NULL,
    category TEXT    NOT NULL,
    channel  TEXT    NOT NULL,
    topic    TEXT    NOT NULL,
    word     TEXT    NOT NULL,
    evidence TEXT    NOT NULL
) STRICT;
CREATE UNIQUE INDEX spoken_once ON spoken (customer, at, category, channel, topic, word);

CREATE TABLE suppressions (
    address BLOB PRIMARY KEY,
    cause   TEXT    NOT NULL,
    at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Events that suppressed an address, so that a repeated one does not undo a later removal.
CREATE TABLE suppression_events (
    address BLOB    NOT NULL,
    id      TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (address, id)
) STRICT, WITHOUT ROWID;
