"""
Tables with encrypted columns next to a plaintext shadow.

A shadow has text in place of an encrypted value: keyset, a slash, plaintext. So its plain equality is that of encrypted values,
keysets included; and where the encrypted side has a text, which stands for that text in the session's keyset, the shadow has
the same with the session's keyset in front.
"""

KEYSETS = ("default", "tenant")

# Repeated by many rows: what may be taken for nothing or for each other, and what is stored out of line.
SHARED = ["", " ", "a", "A", "a ", "á", "a\u0301", "ß", "ss", "データ", "🦘", "o'x", '"', "\\", "\\\\", "{a}", "a,b", "NULL", "%", "0", "00", "0.0",
          "ada@example.org", "Ada@example.org", "tab\there", "two\nlines", "w" * 63, "w" * 64, "long " * 500, "long " * 500 + "x",
          *(f"name {number}" for number in range(20))]
VALUES = SHARED + [f"n{number}" for number in range(400)]

# {table: (type of v, index on it, rows, values, whether of several keysets)}
TABLES = {
    "hashed": ("encrypted_text('email', 'searchable')", "USING hash (v)", 300, SHARED, False),
    "uniq": ("encrypted_text('searchable')", None, 300, VALUES, False),
    "bare": ("encrypted_text('searchable')", None, 900, VALUES, False),
    "loose": ("encrypted_text", None, 120, SHARED, False),
    "loose_hashed": ("encrypted_text('email')", "USING hash (v)", 120, VALUES[::3], False),
    "mixed": ("encrypted_text('searchable')", "USING hash (v)", 200, SHARED, True),
    "mixed_uniq": ("encrypted_text('searchable')", None, 250, VALUES[:200], True),
    "loose_mixed": ("encrypted_text", None, 100, SHARED, True),
}
UNIQUE = ("uniq", "mixed_uniq")
PARTITIONED = "bare"


class Side:
    """How one of the two schemas says it."""

    def __init__(self, schema, type_name, prefix):
        self.schema, self.type, self.prefix = schema, type_name, prefix

    def text(self, keyset, text):
        return f"{keyset}/{text}" if self.prefix else text


ENCRYPTED, SHADOW = SIDES = Side("enc", "encrypted_text", False), Side("plain", "text", True)


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def array(texts):
    """An array as PostgreSQL reads it; None is a null."""
    escaped = ("NULL" if t is None else '"' + t.replace("\\", "\\\\").replace('"', '\\"') + '"' for t in texts)
    return "{" + ",".join(escaped) + "}"


def schema(dice):
    """SQL that makes and fills both sides."""
    sql = ["CREATE SCHEMA enc; CREATE SCHEMA plain; CREATE TABLE plain.texts (id int PRIMARY KEY, v text, n int);"
           "CREATE FUNCTION show(encrypted_text) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT decrypt_field($1) $$;"
           "CREATE FUNCTION show(text) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT substr($1, strpos($1, '/') + 1) $$;"]
    for name, (type_name, index, rows, values, mixed) in TABLES.items():
        # Unique values may still be alike in different keysets.
        pairs = [(keyset, text) for keyset in (KEYSETS if mixed else KEYSETS[:1]) for text in values]
        pairs = dice.sample(pairs, rows) if name in UNIQUE else dice.choices(pairs, k=rows)
        pairs = [pair if dice.random() > 0.07 else None for pair in pairs]
        lines = [f"({row}, {quoted('/'.join(pair)) if pair else 'NULL'}, {dice.randrange(8)})" for row, pair in enumerate(pairs, 1)]
        sql.append(f"CREATE TABLE plain.{name} (id int PRIMARY KEY, v text, n int); INSERT INTO plain.{name} VALUES {', '.join(lines)};")
        if name == PARTITIONED:
            sql.append(f"CREATE TABLE enc.{name} (id int PRIMARY KEY, v {type_name}, n int) PARTITION BY RANGE (id); CREATE TABLE enc.part1 PARTITION OF enc.{name} "
                       f"FOR VALUES FROM (MINVALUE) TO (300); CREATE TABLE enc.part2 PARTITION OF enc.{name} DEFAULT;")
        else:
            sql.append(f"CREATE TABLE enc.{name} (id int PRIMARY KEY, v {type_name}, n int) WITH (parallel_workers = 2);")
        for keyset in KEYSETS:
            sql.append(f"SET prism_crypt.keyset = '{keyset}'; INSERT INTO enc.{name} SELECT id, show(v), n FROM plain.{name} "
                       f"WHERE v LIKE '{keyset}/%'{' OR v IS NULL' if keyset == KEYSETS[0] else ''};")
        if name in UNIQUE:
            sql.append(f"ALTER TABLE enc.{name} ADD UNIQUE (v); ALTER TABLE plain.{name} ADD UNIQUE (v);")
        elif index:
            sql.append(f"CREATE INDEX ON enc.{name} {index};")
    texts = [f"({row}, {quoted(dice.choice(VALUES[:100]))}, {dice.randrange(8)})" for row in range(1, 151)]
    # The shadow of a text column is what its texts stand for. Arrays take two values of another table each.
    sql.append(f"""
        RESET prism_crypt.keyset;
        INSERT INTO plain.texts VALUES {', '.join(texts)}, (0, NULL, 0);
        CREATE TABLE enc.words AS SELECT * FROM plain.texts;
        CREATE VIEW plain.words AS SELECT id, current_setting('prism_crypt.keyset') || '/' || v AS v, n FROM plain.texts;
        CREATE TABLE enc.lists (id int, a encrypted_text('searchable')[], b encrypted_text[]);
        CREATE TABLE plain.lists (id int, a text[], b text[]);
        INSERT INTO enc.lists SELECT x.id, ARRAY[x.v, y.v, x.v], ARRAY[y.v] FROM enc.mixed AS x JOIN enc.loose_mixed AS y ON y.id = x.id % 40 + 1 WHERE x.id <= 60;
        INSERT INTO plain.lists SELECT x.id, ARRAY[x.v, y.v, x.v], ARRAY[y.v] FROM plain.mixed AS x JOIN plain.loose_mixed AS y ON y.id = x.id % 40 + 1 WHERE x.id <= 60;
        ANALYZE;""")
    return "\n".join(sql)
