//! Runs the steps on stdin with tokio-postgres and prints what each gave; tests/drivers/driver_checks.py says what a step is.

mod plaintext;
mod recipe;
mod value;

use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt, pin_mut};
use serde_json::{Value, json};
use std::collections::HashMap;
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls, Statement};
use value::{Given, Shown};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn text<'a>(step: &'a Value, key: &str) -> &'a str {
    step[key].as_str().unwrap_or_default()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn types(step: &Value) -> Vec<Type> {
    let known = |name: &Value| match name.as_str() {
        Some("int4") => Type::INT4,
        Some("text") => Type::TEXT,
        _ => Type::BYTEA,
    };
    items(&step["types"]).iter().map(known).collect()
}

/// With "text" or "varchar" the parameters are declared as that, as JDBC and Npgsql do it; else the server says what they are.
async fn prepare(client: &Client, step: &Value, variant: &str) -> Outcome<Statement> {
    let declared = |value: &Value| match (variant, value) {
        (_, Value::Number(_)) => Type::INT4,
        ("text", Value::Array(_)) => Type::TEXT_ARRAY,
        ("text", _) => Type::TEXT,
        ("varchar", Value::Array(_)) => Type::VARCHAR_ARRAY,
        ("varchar", _) => Type::VARCHAR,
        _ => Type::UNKNOWN,
    };
    let declared: Vec<Type> = items(&step["runs"][0]).iter().map(declared).collect();
    let declared = if variant == "untyped" { &[][..] } else { &declared[..] };
    Ok(client.prepare_typed(text(step, "sql"), declared).await?)
}

async fn query(
    client: &Client,
    step: &Value,
    variant: &str,
    kept: &mut HashMap<String, Statement>,
) -> Outcome<Value> {
    // Kept, as the driver would close it.
    let sql = text(step, "sql");
    if !kept.contains_key(sql) {
        kept.insert(sql.to_owned(), prepare(client, step, variant).await?);
    }
    let statement = &kept[sql];
    let mut gave = Vec::new();
    for run in items(&step["runs"]) {
        let parameters: Vec<Given> = items(run).iter().cloned().map(Given).collect();
        let parameters: Vec<&(dyn ToSql + Sync)> =
            parameters.iter().map(|p| p as &(dyn ToSql + Sync)).collect();
        let rows = client.query(statement, &parameters).await?;
        let shown =
            |row: tokio_postgres::Row| (0..row.len()).map(|i| row.get::<_, Shown>(i).0).collect::<Vec<_>>();
        gave.push(json!(rows.into_iter().map(shown).collect::<Vec<_>>()));
    }
    Ok(json!(gave))
}

async fn copy_in(client: &Client, step: &Value) -> Outcome<Value> {
    let columns: Vec<&str> = items(&step["columns"]).iter().filter_map(Value::as_str).collect();
    let sql = format!(
        "COPY {} ({}) FROM STDIN (FORMAT {})",
        text(step, "copy_in"),
        columns.join(", "),
        text(step, "format")
    );
    let sink = client.copy_in::<_, Bytes>(&sql).await?;
    if text(step, "format") == "binary" {
        let writer = BinaryCopyInWriter::new(sink, &types(step));
        pin_mut!(writer);
        for row in items(&step["rows"]) {
            let row: Vec<Given> = items(row).iter().cloned().map(Given).collect();
            writer.as_mut().write_raw(&row).await?;
        }
        writer.finish().await?;
    } else {
        let field = |value: &Value| {
            value.as_str().map(str::to_owned).unwrap_or_else(|| value.to_string().replace("null", "\\N"))
        };
        let line = |row: &Value| items(row).iter().map(field).collect::<Vec<_>>().join("\t") + "\n";
        send(sink, items(&step["rows"]).iter().map(line).collect::<String>().into()).await?;
    }
    Ok(Value::Null)
}

async fn send(sink: tokio_postgres::CopyInSink<Bytes>, data: Bytes) -> Outcome<()> {
    pin_mut!(sink);
    sink.send(data).await?;
    sink.finish().await?;
    Ok(())
}

async fn bytes(client: &Client, sql: &str) -> Outcome<Vec<u8>> {
    let parts: Vec<Bytes> = client.copy_out(sql).await?.try_collect().await?;
    Ok(parts.concat())
}

async fn copy_out(client: &Client, step: &Value) -> Outcome<Value> {
    let sql = format!("COPY ({}) TO STDOUT (FORMAT {})", text(step, "copy_out"), text(step, "format"));
    if text(step, "format") == "binary" {
        let types = types(step);
        let rows: Vec<_> =
            BinaryCopyOutStream::new(client.copy_out(&sql).await?, &types).try_collect().await?;
        let shown = |row: &tokio_postgres::binary_copy::BinaryCopyOutRow| {
            (0..types.len()).map(|i| row.get::<Shown>(i).0).collect::<Vec<_>>()
        };
        return Ok(json!(rows.iter().map(shown).collect::<Vec<_>>()));
    }
    let lines = String::from_utf8(bytes(client, &sql).await?)?;
    Ok(json!(lines.lines().map(|line| line.split('\t').collect()).collect::<Vec<Vec<_>>>()))
}

/// As bytes, from a query to a table.
async fn copy_back(client: &Client, step: &Value) -> Outcome<Value> {
    let format = text(step, "format");
    let data =
        bytes(client, &format!("COPY ({}) TO STDOUT (FORMAT {format})", text(step, "copy_back"))).await?;
    send(
        client.copy_in(&format!("COPY {} FROM STDIN (FORMAT {format})", text(step, "to"))).await?,
        data.into(),
    )
    .await?;
    Ok(Value::Null)
}

async fn run(
    client: &Client,
    step: &Value,
    variant: &str,
    kept: &mut HashMap<String, Statement>,
) -> Outcome<Value> {
    let gave = match step {
        _ if step.get("sql").is_some() => query(client, step, variant, kept).await,
        _ if step.get("copy_in").is_some() => copy_in(client, step).await,
        _ if step.get("copy_out").is_some() => copy_out(client, step).await,
        _ => copy_back(client, step).await,
    };
    let Err(error) = gave else { return gave };
    let Some(database) = error.downcast_ref::<tokio_postgres::Error>().and_then(|e| e.as_db_error()) else {
        return Err(error);
    };
    let (detail, hint) = (database.detail().unwrap_or_default(), database.hint().unwrap_or_default());
    Ok(json!({"error": database.code().code(), "text": format!("{} {detail} {hint}", database.message())}))
}

async fn steps(given: &Value) -> Outcome<()> {
    let at = &given["connection"];
    let mut config = tokio_postgres::Config::new();
    config.host(text(at, "host")).port(at["port"].as_u64().unwrap_or_default() as u16);
    config.user(text(at, "user")).dbname(text(at, "database"));
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    if text(given, "variant") == "plaintext" {
        println!("{}", plaintext::plaintext(&client, text(given, "email"), text(given, "other")).await?);
        return Ok(());
    }
    if text(given, "variant") == "recipe" {
        let row =
            recipe::recipe(&client, text(given, "name"), text(given, "email"), text(given, "other")).await?;
        println!("{row}");
        return Ok(());
    }
    let (mut gave, mut kept) = (Vec::new(), HashMap::new());
    for step in items(&given["steps"]) {
        gave.push(run(&client, step, text(given, "variant"), &mut kept).await?);
    }
    println!("{}", json!(gave));
    Ok(())
}

fn main() -> Outcome<()> {
    let given = serde_json::from_reader(std::io::stdin())?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(steps(&given))
}
