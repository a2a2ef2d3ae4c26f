"""What docs/recipes-clients.md says of asyncpg."""

import asyncio
import json
import sys

import asyncpg

given = json.load(sys.stdin)
where, name, email, other = given["connection"], given["name"], given["email"], given["other"]


async def main():
    conn = await asyncpg.connect(**where)
    # recipe
    await conn.execute("INSERT INTO patients (name, email) VALUES ($1::text, $2::text)", name, email)
    # Only for copy_records_to_table(), which is binary; a bare column then comes as bytes.
    await conn.set_type_codec("encrypted_text", schema="public", encoder=str.encode, decoder=bytes, format="binary")
    await conn.copy_records_to_table("patients", records=[(name, other)], columns=["name", "email"])

    row = await conn.fetchrow("SELECT id, decrypt_field(name), email::text FROM patients WHERE email = $1::text", email)
    rows = await conn.fetch("SELECT id FROM patients WHERE email = ANY ($1::text[]) ORDER BY id", [email, other])
    upserted = await conn.fetchval(
        """INSERT INTO patients (name, email) VALUES ($1::text, $2::text)
           ON CONFLICT (email) DO UPDATE SET name = excluded.name RETURNING id""", name, email)
    # end of recipe
    await conn.close()
    json.dump({"row": list(row), "rows": [list(r) for r in rows], "upserted": upserted}, sys.stdout)


asyncio.run(main())
