//! Type modifiers: `encrypted_text('email', 'searchable')`. The modifier is the code of the field class, plus one bit for a
//! searchable column.

use crate::error::{Error, SqlResult};
use pgrx::prelude::*;
use prism_envelope::{Attributes, FieldClass, SearchTag};
use std::ffi::{CStr, CString};

const SEARCHABLE: &str = "searchable";
const SEARCHABLE_BIT: i32 = 0x100;

/// What a type modifier asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modifier {
    /// [`FieldClass::None`] if the modifier names no class.
    pub class: FieldClass,
    /// Whether values carry a search tag.
    pub is_searchable: bool,
}

impl Modifier {
    /// The modifier with this number; `None` if there is none.
    pub fn of(typmod: i32) -> Option<Self> {
        let class = FieldClass::from_code(u8::try_from(typmod & !SEARCHABLE_BIT).ok()?)?;
        Some(Self { class, is_searchable: typmod & SEARCHABLE_BIT != 0 })
    }

    fn number(self) -> i32 {
        i32::from(self.class.code()) | if self.is_searchable { SEARCHABLE_BIT } else { 0 }
    }
}

/// The attributes of a new value for a column with this modifier. A search tag is made when the value is sealed.
pub fn attributes_of(typmod: i32) -> Attributes {
    let modifier = Modifier::of(typmod);
    Attributes {
        class: modifier.map_or(FieldClass::None, |modifier| modifier.class),
        search_tag: modifier.filter(|modifier| modifier.is_searchable).map(|_| SearchTag::UNMADE),
        ..Attributes::default()
    }
}

/// The class that a modifier asks for; `None` if it asks for none.
pub fn class_of(typmod: i32) -> Option<FieldClass> {
    Modifier::of(typmod).map(|modifier| modifier.class).filter(|class| *class != FieldClass::None)
}

/// The class with this name.
pub fn class_named(name: &str) -> Result<FieldClass, Error> {
    FieldClass::from_name(name).ok_or_else(|| Error::UnknownClass(name.to_owned()))
}

/// The name of a class in messages and results.
pub fn class_name(class: FieldClass) -> &'static str {
    class.name().unwrap_or("none")
}

/// `encrypted_text_typmod_in(cstring[]) → integer`
#[pg_extern(sql = false)]
fn encrypted_text_typmod_in(modifiers: pgrx::datum::Array<&CStr>) -> SqlResult<i32> {
    let (mut class, mut is_searchable) = (None, false);
    for modifier in modifiers.iter() {
        let modifier = modifier.and_then(|modifier| modifier.to_str().ok()).ok_or(Error::TypeModifier)?;
        let is_repeated = if modifier == SEARCHABLE {
            std::mem::replace(&mut is_searchable, true)
        } else {
            class.replace(class_named(modifier)?).is_some()
        };
        if is_repeated {
            return Err(Error::TypeModifier.into());
        }
    }
    if class.is_none() && !is_searchable {
        return Err(Error::TypeModifier.into());
    }
    Ok(Modifier { class: class.unwrap_or_default(), is_searchable }.number())
}

/// `encrypted_text_typmod_out(integer) → cstring`
#[pg_extern(sql = false)]
fn encrypted_text_typmod_out(typmod: i32) -> CString {
    let class = class_of(typmod).map(class_name);
    let searchable = Modifier::of(typmod).filter(|modifier| modifier.is_searchable).map(|_| SEARCHABLE);
    // Without quotes, as PostGIS shows its types: tools take quotes for a part of the words.
    let shown: Vec<_> = class.into_iter().chain(searchable).collect();
    let shown = if shown.is_empty() { String::new() } else { format!("({})", shown.join(",")) };
    CString::new(shown).unwrap_or_default()
}
