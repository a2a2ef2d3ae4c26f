"""Tables with searchable columns for several scenarios, and questions that comparisons of stored values answer."""

from harness import PgError

# Every address stands beside its row in plain text, as what the answers are compared with.
SCHEMA = """
    CREATE TABLE users (id int PRIMARY KEY, email encrypted_text('email', 'searchable'), plain text);
    CREATE INDEX users_hash ON users USING hash (email);
    ALTER TABLE users ADD CONSTRAINT users_unique UNIQUE (email);
    CREATE TABLE logins (id int PRIMARY KEY, email encrypted_text('email', 'searchable') REFERENCES users (email), plain text);
    CREATE INDEX logins_hash ON logins USING hash (email);
    CREATE TABLE seats (id int PRIMARY KEY, v encrypted_text('searchable'), plain text, CONSTRAINT seats_excl EXCLUDE USING hash (v WITH =));
    CREATE TABLE lists (id int PRIMARY KEY, v encrypted_text('searchable')[], plain text[]);
    CREATE INDEX lists_hash ON lists USING hash (v);
"""
# An index key can't change while there is such a table.
PARTITIONED = """
    CREATE TABLE parts (id int, v encrypted_text('searchable'), plain text) PARTITION BY HASH (v);
    CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 3, REMAINDER 0);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 3, REMAINDER 1);
    CREATE TABLE parts_2 PARTITION OF parts FOR VALUES WITH (MODULUS 3, REMAINDER 2);
    INSERT INTO parts SELECT n, 'user' || n % 70, 'user' || n % 70 FROM generate_series(1, 300) AS n;
"""
# 200 users with two of no address, 600 log-ins of 150 of them, some of nobody.
FILL = """
    INSERT INTO users SELECT n, p, p FROM (SELECT n, CASE WHEN n > 2 THEN 'user' || n || '@example.org' END AS p FROM generate_series(1, 200) AS n) AS s;
    INSERT INTO logins SELECT n, p, p FROM (SELECT n, CASE WHEN n % 50 > 0 THEN 'user' || n % 148 + 3 || '@example.org' END AS p
        FROM generate_series(1, 600) AS n) AS s;
    INSERT INTO seats SELECT n, 'seat' || n, 'seat' || n FROM generate_series(1, 100) AS n;
    INSERT INTO lists SELECT n, ARRAY['a' || n % 9, 'b'], ARRAY['a' || n % 9, 'b'] FROM generate_series(1, 60) AS n;
"""
VIEW = """
    CREATE MATERIALIZED VIEW busy AS SELECT email, min(plain) AS plain, count(*) AS n FROM logins WHERE email IS NOT NULL GROUP BY email;
    CREATE UNIQUE INDEX busy_unique ON busy (email encrypted_text_unique_ops);
"""

# Each gives its answer twice: by encrypted values and by plain text.
QUESTIONS = {
    "join": ("SELECT count(*), sum(u.id), sum(l.id) FROM users AS u JOIN logins AS l ON u.{0} = l.{0}", "email", "plain"),
    "left join": ("SELECT count(*), count(l.id) FROM users AS u LEFT JOIN logins AS l ON u.{0} = l.{0}", "email", "plain"),
    "group": ("SELECT array_agg(n ORDER BY n) FROM (SELECT count(*) AS n FROM logins GROUP BY {0}) AS s", "email", "plain"),
    "distinct": ("SELECT count(*) FROM (SELECT DISTINCT {0} FROM logins) AS s", "email", "plain"),
    "anti join": ("SELECT count(*), sum(id) FROM users AS u WHERE NOT EXISTS (SELECT FROM logins AS l WHERE l.{0} = u.{0})", "email", "plain"),
    "look-up by a stored value": ("SELECT array_agg(id ORDER BY id) FROM logins WHERE {0} = (SELECT {0} FROM users WHERE id = 77)", "email", "plain"),
    "any of stored values": (
        "SELECT array_agg(id ORDER BY id) FROM users WHERE {0} = ANY (ARRAY(SELECT {0} FROM logins WHERE id < 9))", "email", "plain"),
    "except": ("SELECT count(*) FROM (SELECT {0} FROM users EXCEPT SELECT {0} FROM logins) AS s", "email", "plain"),
    "arrays": ("SELECT count(*), sum(a.id * b.id) FROM lists AS a JOIN lists AS b ON a.{0} = b.{0}", "v", "plain"),
    "rows": ("SELECT count(*) FROM users AS u JOIN logins AS l ON (u.{0}, 1) = (l.{0}, 1)", "email", "plain"),
}
PARTITIONED_QUESTIONS = {
    "partitions": ("SELECT count(*), sum(a.id), sum(b.id) FROM parts AS a JOIN parts AS b ON a.{0} = b.{0}", "v", "plain"),
    "partition of a stored value": ("SELECT array_agg(id ORDER BY id) FROM parts WHERE {0} = (SELECT {0} FROM parts WHERE id = 7)", "v", "plain"),
}
VIEW_QUESTIONS = {"view": ("SELECT count(*), sum(b.n) FROM busy AS b JOIN users AS u ON u.{0} = b.{0}", "email", "plain")}

# Ways to the same answer.
PLANS = {
    "whatever": "",
    "index": "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off; SET enable_memoize = off;",
    "hash join": "SET enable_nestloop = off; SET enable_indexscan = off; SET enable_bitmapscan = off;",
    "nested loop": "SET enable_hashjoin = off; SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_hashagg = off;",
}


def wrong_answers(cluster, db, questions=None, plans=None, before=""):
    """[(question, plan, answer, right answer)] of what the encrypted columns answer otherwise than plain text."""
    wrong = []
    for name, (sql, column, plain) in (questions or QUESTIONS).items():
        right = cluster.psql(sql.format(plain), db=db)
        for plan in plans or PLANS:
            answer = cluster.psql(f"{before}{PLANS[plan]}{sql.format(column)}", db=db)
            if answer != right:
                wrong.append((name, plan, answer, right))
    return wrong


# Look-ups by constant, and the ids that each must give.
LOOKUPS = {
    "literal": ("SELECT id FROM users WHERE email = 'user77@example.org'", "77"),
    "text": ("SELECT id FROM users WHERE email = 'user78@example.org'::text", "78"),
    "array": ("SELECT id FROM users WHERE email = ANY (ARRAY['user79@example.org', 'nobody', NULL]::text[])", "79"),
    "in": ("SELECT id FROM users WHERE email IN ('user80@example.org', 'nobody')", "80"),
    "nobody": ("SELECT id FROM users WHERE email = 'nobody'", ""),
    "prepared": ("PREPARE q (text) AS SELECT id FROM users WHERE email = $1; EXECUTE q ('user81@example.org')", "81"),
    "generic": ("SET plan_cache_mode = force_generic_plan; PREPARE q (text) AS SELECT id FROM users WHERE email = $1; "
                "EXECUTE q ('user82@example.org')", "82"),
    "list": ("SELECT array_agg(id ORDER BY id) FROM lists WHERE v = ARRAY['a4', 'b']::encrypted_text[]", "{4,13,22,31,40,49,58}"),
    "log-ins": ("SELECT array_agg(id ORDER BY id) FROM logins WHERE email = 'user80@example.org'", "{77,225,373,521}"),
}


def wrong_lookups(cluster, db, plans=("whatever", "index")):
    """Likewise of look-ups by constant, which need the key."""
    wrong = []
    for name, (sql, right) in LOOKUPS.items():
        for plan in plans:
            answer = cluster.psql(PLANS[plan] + sql, db=db)
            if answer != right:
                wrong.append((name, plan, answer, right))
    return wrong


# Statements that must fail by a constraint between stored values, with no key.
VIOLATIONS = {
    "unique": ("INSERT INTO users (id, email) SELECT id + 1000, email FROM users WHERE id = 50", "23505"),
    "foreign key": ("CREATE TEMP TABLE kept AS SELECT email FROM users WHERE id = 60; BEGIN; DELETE FROM logins; "
                    "DELETE FROM users WHERE id = 60; INSERT INTO logins SELECT 1, email FROM kept", "23503"),
    "restrict": ("DELETE FROM users WHERE id = 60", "23503"),
    "exclusion": ("INSERT INTO seats SELECT id + 1000, v, plain FROM seats WHERE id = 50", "23P01"),
}


def wrong_violations(cluster, db):
    """[(statement, SQLSTATE)] of what failed otherwise, or did not fail."""
    wrong = []
    for name, (sql, sqlstate) in VIOLATIONS.items():
        done = cluster.run_psql(sql, db=db, check=False, verbose=True)
        got = PgError(done.stderr).sqlstate if done.returncode else None
        if got != sqlstate:
            wrong.append((name, got, done.stderr))
    return wrong
