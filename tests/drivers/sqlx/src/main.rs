//! Asks of sqlx what tests/drivers/orm_checks.py says, stage by stage, through one pool.

mod recipe;

use recipe::Customer;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgPoolOptions};
use sqlx::{Column, Executor, PgPool, Postgres, Type, TypeInfo, query, query_as};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// The next line of stdin; None at its end.
fn line() -> Outcome<Option<Value>> {
    let mut text = String::new();
    Ok(if std::io::stdin().read_line(&mut text)? == 0 { None } else { Some(serde_json::from_str(&text)?) })
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn customer(label: &str, email: &str) -> Customer {
    Customer { label: label.into(), email: email.into(), visits: 1, tags: Vec::new() }
}

fn labels(customers: impl IntoIterator<Item = Customer>) -> Vec<String> {
    customers.into_iter().map(|customer| customer.label).collect()
}

async fn labelled(pool: &PgPool, label: &str) -> Outcome<Customer> {
    Ok(query_as("SELECT * FROM customers WHERE label = $1").bind(label).fetch_one(pool).await?)
}

/// What the error of a second customer with this e-mail says, as text.
async fn refusal(pool: &PgPool, table: &str, email: &str) -> Outcome<String> {
    let insert = format!("INSERT INTO {table} (label, email) VALUES ($1, $2)");
    let error = query(&insert).bind("again").bind(email).execute(pool).await.err().ok_or("no error")?;
    let error = error.into_database_error().ok_or("not an error of the database")?;
    let kind = format!("{:?}", error.kind());
    let told: &PgDatabaseError = error.downcast_ref();
    let names = [told.schema(), told.table(), told.column(), told.data_type(), error.constraint()];
    let texts = [Some(told.message()), told.detail(), told.hint(), told.r#where()];
    let position = told.position().map(|position| format!("{position:?}"));
    let place = (told.file(), told.line(), told.routine());
    let severity = format!("{:?}", told.severity());
    Ok(json!([kind, severity, error.code(), texts, names, position, place]).to_string())
}

/// Whether both say the same of the same e-mail, which ours withholds.
async fn duplicate(pool: &PgPool, email: &str) -> Outcome<bool> {
    query("INSERT INTO plain_customers (label, email) VALUES ('first', $1)")
        .bind(email)
        .execute(pool)
        .await?;
    let ours = refusal(pool, "customers", email).await?;
    let twin = refusal(pool, "plain_customers", email).await?;
    let twin = twin.replace("plain_customers", "customers").replace(email, "withheld");
    Ok(ours == twin && ours.contains("\"23505\""))
}

/// What `query_as!` asks of the server when it is compiled: each column, with a type that fits the model, and whether it can be null.
async fn columns(pool: &PgPool, table: &str) -> Outcome<Vec<(String, String, Option<bool>)>> {
    let described = pool.describe(&format!("SELECT * FROM {table}")).await?;
    let fits = |name: &str, found: &<Postgres as sqlx::Database>::TypeInfo| match name {
        "label" | "email" => <String as Type<Postgres>>::compatible(found),
        "tags" => <Vec<String> as Type<Postgres>>::compatible(found),
        _ => <i32 as Type<Postgres>>::compatible(found),
    };
    let columns = described.columns.iter().zip(described.nullable);
    columns
        .map(|(column, nullable)| {
            let found = column.type_info();
            match fits(column.name(), found) {
                true => Ok((column.name().to_owned(), found.name().to_owned(), nullable)),
                false => Err(format!("{} is {}", column.name(), found.name()).into()),
            }
        })
        .collect()
}

async fn first(pool: &PgPool, texts: &Value) -> Outcome<Value> {
    let email = text(texts, "email");
    recipe::migrate(pool, concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).await?;
    recipe::add(pool, &[customer("first", email)]).await?;
    let inserted = labelled(pool, "first").await?.email;
    let others = [("second", "phone"), ("third", "name"), ("fourth", "unicode")];
    recipe::add(pool, &others.map(|(label, name)| customer(label, text(texts, name)))).await?;
    recipe::set_tags(pool, "second", &[text(texts, "tax id"), text(texts, "name")]).await?;
    Ok(json!({
        "inserted": inserted,
        "found": labels(recipe::with_email(pool, email).await?),
        "absent": labels(recipe::with_email(pool, "absent").await?),
        "listed": labels(recipe::with_emails(pool, &[text(texts, "phone"), text(texts, "unicode")]).await?),
        "upserted": recipe::visit(pool, "again", email).await?,
        "tags": labelled(pool, "second").await?.tags,
        "tagged": labels(recipe::with_tag(pool, text(texts, "tax id")).await?),
        "duplicate": duplicate(pool, email).await?,
        "agrees": columns(pool, "customers").await? == columns(pool, "plain_customers").await?,
    }))
}

async fn again(pool: &PgPool, texts: &Value, stage: &str, email: &str) -> Outcome<Value> {
    recipe::add(pool, &[customer(stage, email)]).await?;
    Ok(json!({
        "found": labels(recipe::with_email(pool, text(texts, "email")).await?),
        "listed": labels(recipe::with_emails(pool, &[text(texts, "phone"), text(texts, "unicode")]).await?),
        "tags": labelled(pool, "second").await?.tags,
        "added": labels(recipe::with_email(pool, email).await?),
    }))
}

async fn stages() -> Outcome<()> {
    let given = line()?.ok_or("nothing given")?;
    let (at, texts) = (&given["connection"], &given["texts"]);
    let port = at["port"].as_u64().unwrap_or_default() as u16;
    let options = PgConnectOptions::new().host(text(at, "host")).port(port);
    let options = options.username(text(at, "user")).database(text(at, "database"));
    let pool = PgPoolOptions::new().connect_with(options).await?;
    println!("{}", first(&pool, texts).await?);
    while let Some(next) = line()? {
        println!("{}", again(&pool, texts, text(&next, "stage"), text(&next, "email")).await?);
    }
    Ok(())
}

fn main() -> Outcome<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(stages())
}
