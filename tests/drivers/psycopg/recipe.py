"""What docs/recipes-clients.md says of psycopg."""

import json
import sys

import psycopg

given = json.load(sys.stdin)
dsn, name, email, other = given["dsn"], given["name"], given["email"], given["other"]

# recipe
with psycopg.connect(dsn) as conn:
    conn.execute("INSERT INTO patients (name, email) VALUES (%s::text, %s::text)", (name, email))
    with conn.cursor().copy("COPY patients (name, email) FROM STDIN") as copy:
        copy.write_row((name, other))

    row = conn.execute(
        "SELECT id, decrypt_field(name), email::text FROM patients WHERE email = %s::text", (email,)).fetchone()
    rows = conn.execute(
        "SELECT id FROM patients WHERE email = ANY (%s::text[]) ORDER BY id", ([email, other],)).fetchall()
    upserted = conn.execute(
        """INSERT INTO patients (name, email) VALUES (%s::text, %s::text)
           ON CONFLICT (email) DO UPDATE SET name = excluded.name RETURNING id""", (name, email)).fetchone()
# end of recipe

json.dump({"row": row, "rows": rows, "upserted": upserted[0]}, sys.stdout)
