//! What docs/recipes-clients.md says of tokio-postgres.

use crate::Outcome;
use futures_util::pin_mut;
use serde_json::{Value, json};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

pub async fn recipe(client: &Client, name: &str, email: &str, other: &str) -> Outcome<Value> {
    // recipe
    client
        .execute("INSERT INTO patients (name, email) VALUES ($1::text, $2::text)", &[&name, &email])
        .await?;
    let sink = client.copy_in("COPY patients (name, email) FROM STDIN (FORMAT binary)").await?;
    let writer = BinaryCopyInWriter::new(sink, &[Type::TEXT, Type::TEXT]);
    pin_mut!(writer);
    writer.as_mut().write(&[&name, &other]).await?;
    writer.finish().await?;

    let find =
        client.prepare_typed("SELECT id, name, email FROM patients WHERE email = $1", &[Type::TEXT]).await?;
    let row = client.query_one(&find, &[&email]).await?;
    let find = "SELECT id FROM patients WHERE email = ANY ($1) ORDER BY id";
    let rows = client.query_typed(find, &[(&vec![email, other], Type::TEXT_ARRAY)]).await?;
    let upsert = "INSERT INTO patients (name, email) VALUES ($1::text, $2::text)
        ON CONFLICT (email) DO UPDATE SET name = excluded.name RETURNING id";
    let upserted: i32 = client.query_one(upsert, &[&name, &email]).await?.get(0);
    // end of recipe
    let row = json!([row.get::<_, i32>(0), row.get::<_, String>(1), row.get::<_, String>(2)]);
    let rows: Vec<[i32; 1]> = rows.iter().map(|row: &Row| [row.get(0)]).collect();
    Ok(json!({"row": row, "rows": rows, "upserted": upserted}))
}
