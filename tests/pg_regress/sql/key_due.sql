-- When a key is due for rotation.
CALL regress.fresh();
\set SHOW_CONTEXT never
CREATE VIEW due AS SELECT keyset, key_version, rotation_interval, due_at = active_since + rotation_interval AS due_at, seals_reserved IS NOT NULL AS counted, due, reason FROM prism_crypt.rotation_due();
SELECT * FROM due;
SELECT prism_crypt.create_keyset('slow'), prism_crypt.create_keyset('never'), prism_crypt.create_keyset('fast');
SELECT prism_crypt.set_rotation_interval('slow', '10 years'), prism_crypt.set_rotation_interval('never', NULL), prism_crypt.set_rotation_interval('fast', '1 day');
SELECT * FROM due ORDER BY key_version;
CALL regress.fails('SELECT prism_crypt.set_rotation_interval(''fast'', ''0'')');
CALL regress.fails('SELECT prism_crypt.set_rotation_interval(''fast'', ''-1 day'')');
CALL regress.fails('SELECT prism_crypt.set_rotation_interval(''nobody'', ''1 day'')');
CALL regress.fails('SELECT prism_crypt.set_rotation_interval(NULL, ''1 day'')');
-- Age. Those that are due come first, the oldest of them first.
UPDATE prism_crypt.data_key SET created_at = now() - interval '100 days';
SELECT * FROM due;
UPDATE prism_crypt.data_key SET created_at = now() - interval '20 years' WHERE keyset = 'slow';
SELECT keyset, due, reason FROM due;
UPDATE prism_crypt.data_key SET created_at = now() - interval '200 years' WHERE keyset = 'never';
SELECT keyset, due, reason FROM due WHERE keyset = 'never';
-- The age of the active key counts, not that of the keyset.
SELECT prism_crypt.rotate_key('slow') IS NOT NULL, prism_crypt.rotate_key('fast') IS NOT NULL;
SELECT keyset, due FROM due ORDER BY keyset;
-- Use.
INSERT INTO prism_crypt.data_key_usage SELECT version, 2147483648 FROM prism_crypt.data_key WHERE keyset = 'never' ON CONFLICT (version) DO UPDATE SET seals_reserved = 2147483648;
DELETE FROM prism_crypt.data_key_usage AS u USING prism_crypt.data_key AS k WHERE k.version = u.version AND k.keyset = 'default';
SELECT * FROM due ORDER BY keyset;
-- Keysets without an active key have nothing to rotate.
SELECT prism_crypt.destroy_keyset('never', 'test', true);
SELECT keyset, due FROM due ORDER BY keyset;
-- Whoever may.
SET ROLE regress_prism_app;
CALL regress.fails('SELECT * FROM prism_crypt.rotation_due()');
RESET ROLE;
SELECT prism_crypt.grant_access('regress_prism_monitor', 'monitor');
SET ROLE regress_prism_monitor;
SELECT count(*) FROM prism_crypt.rotation_due();
CALL regress.fails('SELECT prism_crypt.set_rotation_interval(''fast'', ''2 days'')');
RESET ROLE;
SELECT prism_crypt.revoke_access('regress_prism_monitor', 'monitor');
SELECT event, keyset, detail FROM prism_crypt.audit_log WHERE event = 'set_rotation_interval' ORDER BY id;
