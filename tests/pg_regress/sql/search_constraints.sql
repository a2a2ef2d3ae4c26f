-- Constraints and indexes as tools declare them, without an operator class.
CALL regress.fresh();
CREATE TABLE users (
  email encrypted_text('email', 'searchable') PRIMARY KEY, login encrypted_text('searchable') UNIQUE, team int, phone encrypted_text('phone', 'searchable'),
  CONSTRAINT users_team_phone UNIQUE (team, phone)
);
CREATE INDEX ON users (phone);
CREATE UNIQUE INDEX ON users (team, login) INCLUDE (email) WHERE team > 1;
\d users
INSERT INTO users VALUES ('a@x.org', 'a', 1, '1'), ('b@x.org', 'b', 1, '2'), ('c@x.org', NULL, 2, NULL), ('d@x.org', NULL, 2, NULL);
CALL regress.fails($$INSERT INTO users VALUES ('a@x.org')$$);
CALL regress.fails('INSERT INTO users VALUES (NULL)');
CALL regress.fails($$INSERT INTO users VALUES ('e@x.org', 'a'::text)$$);
CALL regress.fails($$INSERT INTO users VALUES ('e@x.org', 'e', 1, '2')$$);
INSERT INTO users AS u VALUES ('a@x.org', 'new'), ('e@x.org', 'e') ON CONFLICT (email) DO UPDATE SET login = excluded.login RETURNING email::text, login::text;
INSERT INTO users AS u VALUES ('f@x.org', 'b') ON CONFLICT ON CONSTRAINT users_login_key DO UPDATE SET team = 7 RETURNING email::text, team;
INSERT INTO users VALUES ('f@x.org', 'f', 1, '1') ON CONFLICT (team, phone) DO NOTHING RETURNING 1;
INSERT INTO users (email, team) VALUES ('a@x.org', 9), ('g@x.org', 8) ON CONFLICT (email) DO UPDATE SET team = excluded.team;
SELECT email::text, login::text, team, phone::text FROM users ORDER BY email::text;
SET enable_seqscan = off;
SELECT regress.plan($$SELECT team FROM users WHERE phone = '2'$$);
SELECT regress.plan($$SELECT team FROM users WHERE email = ANY ('{a@x.org,b@x.org}'::text[])$$);
SELECT team FROM users WHERE email = ANY ('{a@x.org,b@x.org}'::text[]) ORDER BY 1;
RESET enable_seqscan;
-- The index of a constraint, made first; by hand, with the class that is the default.
CREATE TABLE later (id int, email encrypted_text('searchable') NOT NULL, note encrypted_text('searchable'));
INSERT INTO later VALUES (1, 'a', 'x'), (2, 'b', 'x');
CREATE UNIQUE INDEX CONCURRENTLY later_email ON later (email);
ALTER TABLE later ADD CONSTRAINT later_key UNIQUE USING INDEX later_email;
CREATE UNIQUE INDEX later_named ON later (email encrypted_text_unique_ops);
ALTER TABLE later ADD PRIMARY KEY USING INDEX later_named;
CALL regress.fails('ALTER TABLE later ADD UNIQUE (note)');
ALTER TABLE later ADD UNIQUE (note, id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE later REPLICA IDENTITY USING INDEX later_key;
CREATE TABLE same (LIKE later INCLUDING ALL);
SELECT conname, contype, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid IN ('later'::regclass, 'same'::regclass) AND contype <> 'n' ORDER BY 1, conrelid::regclass::text;
BEGIN;
INSERT INTO later VALUES (1, 'c', 'x');
\set VERBOSITY sqlstate
COMMIT;
\set VERBOSITY default
-- Columns that become encrypted keep their constraints.
CREATE TABLE plain (id int PRIMARY KEY, email text UNIQUE);
INSERT INTO plain VALUES (1, 'a'), (2, 'b');
ALTER TABLE plain ALTER email TYPE encrypted_text('email', 'searchable');
CALL regress.fails($$INSERT INTO plain VALUES (3, 'a')$$);
CREATE TABLE twice AS SELECT * FROM (VALUES (1, 'a'), (2, 'a')) AS v (id, email);
ALTER TABLE twice ALTER email TYPE encrypted_text('email', 'searchable');
CALL regress.fails('ALTER TABLE twice ADD UNIQUE (email)');
-- Columns that are not searchable: a warning.
CREATE TABLE loose (email encrypted_text UNIQUE);
INSERT INTO loose VALUES ('a'), ('b');
CALL regress.fails($$INSERT INTO loose VALUES ('a')$$);

-- Foreign keys, with each action; rotation of both sides, also to a new index key.
CREATE TABLE logins (id int, email encrypted_text('email', 'searchable') REFERENCES users ON UPDATE CASCADE ON DELETE CASCADE);
CREATE TABLE notes (id int, login encrypted_text('searchable') REFERENCES users (login) ON UPDATE CASCADE ON DELETE SET NULL);
CREATE TABLE phones (id int, team int, phone encrypted_text('phone', 'searchable'), FOREIGN KEY (team, phone) REFERENCES users (team, phone));
INSERT INTO logins SELECT 1, email FROM users;
INSERT INTO notes VALUES (1, 'b'), (2, 'e');
INSERT INTO phones VALUES (1, 7, '2'), (2, NULL, '99');
CALL regress.fails($$INSERT INTO logins VALUES (2, 'nobody@x.org')$$);
CALL regress.fails($$UPDATE notes SET login = 'nobody'$$);
CALL regress.fails($$DELETE FROM users WHERE email = 'b@x.org'$$);
DELETE FROM phones WHERE id = 1;
DELETE FROM users WHERE email = 'b@x.org';
UPDATE users SET email = 'moved@x.org', login = 'moved' WHERE login = 'e';
SELECT email::text FROM logins ORDER BY 1;
SELECT id, login::text FROM notes ORDER BY id;
SELECT prism_crypt.rotate_key() AS active \gset
CALL prism_crypt.rotate_all();
SET client_min_messages = warning;
CALL prism_crypt.rotate_index_key();
RESET client_min_messages;
SELECT count(*), count(*) FILTER (WHERE key_version(l.email) = :active) AS moved, count(u) AS found FROM logins AS l LEFT JOIN users AS u USING (email);
CALL regress.fails($$INSERT INTO users VALUES ('moved@x.org')$$);
CALL regress.fails($$INSERT INTO logins VALUES (2, 'nobody@x.org')$$);
DELETE FROM users WHERE email = 'moved@x.org';
SELECT count(*) FROM logins;
SELECT id, login::text FROM notes ORDER BY id;
-- Partitions by list; their bounds are values.
CREATE TABLE parted (email encrypted_text('searchable'), n int, UNIQUE (email)) PARTITION BY LIST (email);
CREATE TABLE parted_a PARTITION OF parted FOR VALUES IN ('a', NULL);
CREATE TABLE parted_rest PARTITION OF parted DEFAULT;
INSERT INTO parted VALUES ('a', 1), ('b', 2), (NULL, 3);
SELECT tableoid::regclass, n FROM parted ORDER BY n;
CALL regress.fails($$INSERT INTO parted VALUES ('b', 4)$$);
-- Arrays: PostgreSQL's own classes take the default class of what is in them.
CREATE TABLE tags (id int, tags encrypted_text[] UNIQUE);
INSERT INTO tags VALUES (1, '{a,b}'), (2, '{b,a}');
CALL regress.fails($$INSERT INTO tags VALUES (3, '{a,b}')$$);
