//! With plaintext output: into what bare columns are read, and what a parameter needs. Both are of the driver's own types here.

use crate::Outcome;
use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_postgres::types::{Type, WrongType};

pub async fn plaintext(client: &Client, email: &str, other: &str) -> Outcome<Value> {
    client.batch_execute("SET prism_crypt.output = 'plaintext'").await?;
    client.batch_execute("CREATE TEMP TABLE lists (emails encrypted_text[])").await?;
    let both = vec![email, other];
    client.execute("INSERT INTO lists VALUES ($1::text[])", &[&both]).await?;

    let bare = "SELECT email FROM people WHERE email = $1";
    let cast = client.query("SELECT email FROM people WHERE email = $1::text", &[&email]).await?;
    let statement = client.prepare_typed(bare, &[Type::TEXT]).await?;
    let prepared = client.query(&statement, &[&email]).await?;
    let typed = client.query_typed(bare, &[(&email, Type::TEXT)]).await?;
    let mut read = Vec::new();
    for rows in [&cast, &prepared, &typed] {
        let emails = rows.iter().map(|row| row.try_get::<_, String>("email"));
        read.push(emails.collect::<Result<Vec<_>, _>>()?);
    }

    let list: Vec<String> = client.query_one("SELECT emails FROM lists", &[]).await?.try_get(0)?;
    let all = "SELECT array_agg(email ORDER BY id) FROM people WHERE id < 7";
    let all: Vec<Option<String>> = client.query_one(all, &[]).await?.try_get(0)?;
    let contains = "SELECT count(*)::int FROM lists WHERE emails @> $1";
    let contained: i32 =
        client.query_typed(contains, &[(&vec![other], Type::TEXT_ARRAY)]).await?[0].try_get(0)?;

    let mut wrong = Vec::new();
    for refused in [
        client.query(bare, &[&email]).await.err(),
        client.query("SELECT id FROM people WHERE email = ANY ($1)", &[&both]).await.err(),
        client.execute("INSERT INTO lists VALUES ($1)", &[&both]).await.err(),
    ] {
        let source = refused.and_then(|error| error.into_source());
        wrong.push(source.is_some_and(|source| source.is::<WrongType>()));
    }
    Ok(json!({"read": read, "list": list, "all": all, "contained": contained, "wrong": wrong}))
}
