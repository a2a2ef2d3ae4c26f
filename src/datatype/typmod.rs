//! Type modifiers: `encrypted_text('email')`. The modifier is the code of the field class.

use crate::error::{Error, SqlResult};
use pgrx::prelude::*;
use prism_envelope::FieldClass;
use std::ffi::{CStr, CString};

const SEARCHABLE: &str = "searchable";

/// The class that a type modifier asks for; `None` where there is no modifier.
pub fn class_of(typmod: i32) -> Option<FieldClass> {
    u8::try_from(typmod).ok().and_then(FieldClass::from_code).filter(|class| *class != FieldClass::None)
}

/// The class with this name.
pub fn class_named(name: &str) -> Result<FieldClass, Error> {
    FieldClass::from_name(name).ok_or_else(|| Error::UnknownClass(name.to_owned()))
}

/// What a class is called in messages and results.
pub fn class_name(class: FieldClass) -> &'static str {
    class.name().unwrap_or("none")
}

/// `encrypted_text_typmod_in(cstring[]) → integer`
#[pg_extern(sql = false)]
fn encrypted_text_typmod_in(modifiers: pgrx::datum::Array<&CStr>) -> SqlResult<i32> {
    let mut class = None;
    for modifier in modifiers.iter() {
        let modifier = modifier.and_then(|modifier| modifier.to_str().ok()).ok_or(Error::TypeModifier)?;
        if modifier == SEARCHABLE {
            return Err(Error::Searchable.into());
        }
        if class.replace(class_named(modifier)?).is_some() {
            return Err(Error::TypeModifier.into());
        }
    }
    Ok(class.ok_or(Error::TypeModifier)?.code().into())
}

/// `encrypted_text_typmod_out(integer) → cstring`
#[pg_extern(sql = false)]
fn encrypted_text_typmod_out(typmod: i32) -> CString {
    let shown = class_of(typmod).map_or(String::new(), |class| format!("('{}')", class_name(class)));
    CString::new(shown).unwrap_or_default()
}
