PRAGMA application_id = 1716806504;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
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
INSERT INTO "consents" VALUES(X'5D462A3377B1E7ED771CF1818051F940','','sms','',0,0,1772452800000,0);
INSERT INTO "consents" VALUES(X'89F2FB2EA9BEDA98FA01D9ED31585E4F','','email','news',1772452800000,0,0,0);
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
INSERT INTO "entries" VALUES(X'78CEB6E1CF697D9AE68CD2C1A2AE6F0B',1772460000000,'c-1',X'566CA3B9BBC56DF2',3,NULL,0,1772460900000,NULL);
INSERT INTO "entries" VALUES(X'89F2FB2EA9BEDA98FA01D9ED31585E4F',1772452800000,'news-1',X'6EB430428F725072',1,'s',1,1772453700000,NULL);
INSERT INTO "entries" VALUES(X'89F2FB2EA9BEDA98FA01D9ED31585E4F',1772456400000,'news-2',X'92C097E00393F85A',1,NULL,0,1772457300000,X'0750D7E9CF1791DBD9C2CFF29BF102A2');
INSERT INTO "entries" VALUES(X'89F2FB2EA9BEDA98FA01D9ED31585E4F',1772456400000,'talk-1',X'636F6E766572736174696F6E',2,NULL,1,0,NULL);
CREATE TABLE kinds (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    spelling TEXT NOT NULL UNIQUE
) STRICT;
INSERT INTO "kinds" VALUES(1,'["email", "marketing", "news", null, [], null]');
INSERT INTO "kinds" VALUES(2,'["voice", null, null, null, [], "conversation"]');
INSERT INTO "kinds" VALUES(3,'["sms", "marketing", null, null, [], null]');
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE namespaces (
    namespace   TEXT PRIMARY KEY,
    fingerprint BLOB    NOT NULL,
    keep        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "namespaces" VALUES('728796b8e52f36903447c0036eb6bbe1',X'076C59371C349E93E1313E7507C6DFC0',34560000000);
CREATE TABLE profiles (
    customer BLOB PRIMARY KEY,
    profile  TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "profiles" VALUES(X'89F2FB2EA9BEDA98FA01D9ED31585E4F','{"country":"AT","timezone":"Europe/Vienna"}');
CREATE TABLE spoken (
    customer BLOB    NOT NULL,
    at       INTEGER NOT NULL,
    category TEXT    NOT NULL,
    channel  TEXT    NOT NULL,
    topic    TEXT    NOT NULL,
    word     TEXT    NOT NULL,
    evidence TEXT    NOT NULL
) STRICT;
INSERT INTO "spoken" VALUES(X'89F2FB2EA9BEDA98FA01D9ED31585E4F',1772452800000,'','email','news','opt_in','{"source": "form"}');
INSERT INTO "spoken" VALUES(X'5D462A3377B1E7ED771CF1818051F940',1772452800000,'','sms','','opt_out','{}');
CREATE TABLE suppression_events (
    address BLOB    NOT NULL,
    id      TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (address, id)
) STRICT, WITHOUT ROWID;
INSERT INTO "suppression_events" VALUES(X'ED5266D56326C793DDD17AD5D7E6BA9E','b1',1772452800000);
CREATE TABLE suppressions (
    address BLOB PRIMARY KEY,
    cause   TEXT    NOT NULL,
    at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "suppressions" VALUES(X'ED5266D56326C793DDD17AD5D7E6BA9E','hard_bounce',1772452800000);
CREATE TABLE totals (
    customer BLOB    NOT NULL,
    kind     INTEGER NOT NULL REFERENCES kinds,
    count    INTEGER NOT NULL,
    PRIMARY KEY (customer, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX entries_by_id ON entries (customer, id);
CREATE UNIQUE INDEX spoken_once ON spoken (customer, at, category, channel, topic, word);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('kinds',3);
COMMIT;
