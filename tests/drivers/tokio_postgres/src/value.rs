//! JSON as parameters and as results. The driver wants to know for each type how to write and read it.

use bytes::BytesMut;
use serde_json::{Value, json};
use std::error::Error;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// A parameter. A string is sent as its bytes for every type, `encrypted_text` among them.
#[derive(Debug)]
pub struct Given(pub Value);

impl ToSql for Given {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match &self.0 {
            Value::String(text) => text.to_sql(ty, out),
            Value::Number(number) => i32::try_from(number.as_i64().unwrap_or_default())?.to_sql(ty, out),
            Value::Array(items) => items.iter().cloned().map(Given).collect::<Vec<_>>().to_sql(ty, out),
            _ => Ok(IsNull::Yes),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A column of a result. What is neither a number nor text, such as a bare `encrypted_text`, is shown as bytes.
pub struct Shown(pub Value);

impl<'a> FromSql<'a> for Shown {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(match *ty {
            Type::BOOL => json!(bool::from_sql(ty, raw)?),
            Type::INT4 => json!(i32::from_sql(ty, raw)?),
            Type::INT8 => json!(i64::from_sql(ty, raw)?),
            Type::TEXT | Type::VARCHAR => json!(<&str>::from_sql(ty, raw)?),
            _ => json!({"hex": raw.iter().map(|byte| format!("{byte:02x}")).collect::<String>()}),
        }))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(Value::Null))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
