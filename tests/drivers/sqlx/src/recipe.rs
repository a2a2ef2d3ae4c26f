//! What docs/recipes-clients.md says of sqlx.

use crate::Outcome;
use sqlx::migrate::Migrator;
use sqlx::{FromRow, PgPool, Postgres, QueryBuilder, query, query_as, query_scalar};
use std::path::Path;

// recipe
#[derive(FromRow)]
pub struct Customer {
    pub label: String,
    pub email: String,
    pub visits: i32,
    pub tags: Vec<String>,
}
// end of recipe

pub async fn migrate(pool: &PgPool, directory: &str) -> Outcome<()> {
    let migrations = Path::new(directory);
    // recipe
    Migrator::new(migrations).await?.run(pool).await?;
    // end of recipe
    Ok(())
}

// recipe
pub async fn with_email(pool: &PgPool, email: &str) -> sqlx::Result<Option<Customer>> {
    query_as("SELECT * FROM customers WHERE email = $1").bind(email).fetch_optional(pool).await
}

pub async fn visit(pool: &PgPool, label: &str, email: &str) -> sqlx::Result<i32> {
    let upsert = "INSERT INTO customers (label, email) VALUES ($1, $2)
        ON CONFLICT (email) DO UPDATE SET visits = customers.visits + 1 RETURNING visits";
    query_scalar(upsert).bind(label).bind(email).fetch_one(pool).await
}
// end of recipe

pub async fn add(pool: &PgPool, customers: &[Customer]) -> sqlx::Result<()> {
    let mut insert = QueryBuilder::<Postgres>::new("INSERT INTO customers (label, email, visits, tags) ");
    insert.push_values(customers, |mut row, customer| {
        row.push_bind(&customer.label).push_bind(&customer.email);
        row.push_bind(customer.visits).push_bind(&customer.tags);
    });
    insert.build().execute(pool).await?;
    Ok(())
}

pub async fn with_emails(pool: &PgPool, emails: &[&str]) -> sqlx::Result<Vec<Customer>> {
    let find = "SELECT * FROM customers WHERE email = ANY ($1) ORDER BY label";
    query_as(find).bind(emails).fetch_all(pool).await
}

pub async fn with_tag(pool: &PgPool, tag: &str) -> sqlx::Result<Vec<Customer>> {
    query_as("SELECT * FROM customers WHERE tags @> $1 ORDER BY label").bind([tag]).fetch_all(pool).await
}

pub async fn set_tags(pool: &PgPool, label: &str, tags: &[&str]) -> sqlx::Result<()> {
    query("UPDATE customers SET tags = $1 WHERE label = $2").bind(tags).bind(label).execute(pool).await?;
    Ok(())
}
