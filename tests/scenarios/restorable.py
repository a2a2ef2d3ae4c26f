"""Schemas whose names sort before and after ours, with everything that opens values while a dump is restored."""

SCHEMAS = ("AAA", "app", "zzz")
# What needs the keys when its rows come, or when it is built: keys have to be there before.
OPENS = """
    CREATE TABLE {0}.checked (id int PRIMARY KEY, v encrypted_text CHECK (length(decrypt_field(v)) < 99));
    CREATE DOMAIN {0}.short AS encrypted_text CHECK (length(decrypt_field(VALUE)) < 99);
    CREATE TABLE {0}.domains (id int PRIMARY KEY, v {0}.short);
    CREATE TABLE {0}.names (id int PRIMARY KEY, v encrypted_text);
    CREATE UNIQUE INDEX names_unique ON {0}.names (v encrypted_text_unique_ops);
    CREATE INDEX names_hash ON {0}.names USING hash (v);
    INSERT INTO {0}.checked SELECT n, 'checked ' || n FROM generate_series(1, 50) AS n;
    INSERT INTO {0}.domains SELECT n, ('domain ' || n)::encrypted_text FROM generate_series(1, 50) AS n;
    INSERT INTO {0}.names SELECT n, 'name ' || n FROM generate_series(1, 50) AS n;
"""
# An index key can't change while there is such a table.
PARTITIONS = """
    CREATE TABLE {0}.parts (id int, v encrypted_text) PARTITION BY HASH (v);
    CREATE TABLE {0}.parts_0 PARTITION OF {0}.parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE {0}.parts_1 PARTITION OF {0}.parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO {0}.parts SELECT n, 'part ' || n FROM generate_series(1, 50) AS n;
"""
# Needs nothing but its search tags, as long as one index key made them all.
SEARCHABLE = """
    CREATE TABLE {0}.users (id int PRIMARY KEY, email encrypted_text('searchable'));
    CREATE UNIQUE INDEX users_unique ON {0}.users (email encrypted_text_unique_ops);
    CREATE INDEX users_hash ON {0}.users USING hash (email);
    CREATE TABLE {0}.visits (id int PRIMARY KEY, email encrypted_text('searchable') REFERENCES {0}.users (email));
    CREATE TABLE {0}.marks (id int PRIMARY KEY, v encrypted_text('searchable'));
    CREATE INDEX marks_hash ON {0}.marks USING hash (v);
    INSERT INTO {0}.users SELECT n, 'user ' || n FROM generate_series(1, 100) AS n;
    SET prism_crypt.keyset = 'tenant_a';
    INSERT INTO {0}.users SELECT n, 'user ' || n FROM generate_series(101, 200) AS n;
    INSERT INTO {0}.marks SELECT n, 'mark ' || n FROM generate_series(1, 100) AS n;
    INSERT INTO {0}.visits SELECT n, 'user ' || 101 + n % 100 FROM generate_series(1, 100) AS n;
    RESET prism_crypt.keyset;
"""
INDEXES = """
    SELECT format('%s.%s valid=%s', c.relnamespace::regnamespace, c.relname, i.indisvalid) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    WHERE c.relnamespace::regnamespace::text IN ('"AAA"', 'app', 'zzz') ORDER BY 1
"""
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, convalidated FROM pg_constraint WHERE connamespace::regnamespace::text IN ('"AAA"', 'app', 'zzz') ORDER BY 1, 2
"""


def schema(name, *parts):
    """The statements that make one schema."""
    return f'CREATE SCHEMA "{name}";' + "".join(part.format(f'"{name}"') for part in parts)


def content(cluster, db):
    """Every row of every table, opened, and what there is of indexes and constraints."""
    tables = cluster.psql("SELECT c.oid::regclass::text FROM pg_class AS c WHERE relkind = 'r' AND relnamespace::regnamespace::text IN ('\"AAA\"', 'app', 'zzz') "
                          "ORDER BY 1", db=db).splitlines()
    column = {"users": "email", "visits": "email"}
    rows = "; ".join(f"SELECT '{t}', id, decrypt_field({column.get(t.rpartition('.')[2], 'v')}) FROM {t} ORDER BY id" for t in tables)
    return cluster.psql(f"{rows}; {INDEXES}; {CONSTRAINTS}", db=db).splitlines()


def missed(cluster, db, tables=("users", "marks")):
    """[(table, id)] of values that an index doesn't find."""
    found = []
    for name in SCHEMAS:
        for table in tables:
            column = "email" if table == "users" else "v"
            sql = f"""SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off; SET enable_memoize = off;
                SELECT a.id FROM "{name}".{table} AS a
                WHERE (SELECT count(*) FROM "{name}".{table} AS b WHERE b.{column} = (SELECT {column} FROM "{name}".{table} AS c WHERE c.id = a.id)) <> 1"""
            found += [(f"{name}.{table}", row) for row in cluster.psql(sql, db=db).splitlines()]
    return found
