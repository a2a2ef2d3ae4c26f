//! `_names_in_expression`, `_constants_open` and `_type_of`: texts of a definition, parsed, and nothing else done with them. Analysing an expression already runs code: the
//! input functions of literals, and so the checks of domains.

use crate::datum::{Text, TextResult};
use crate::error::{Error, SqlResult};
use crate::keyring;
use crate::nodes::{self, check_stack_depth, raw_expression_tree_walker};
use crate::privilege::require_execute;
use crate::varlena::Varlena;
use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use prism_envelope::{Envelope, armor};
use std::ffi::{CStr, CString, c_void};

/// `prism_crypt._names_in_expression(text, OUT kind text, OUT schema text, OUT name text) → setof record`: what an SQL expression names: `type`, `function`,
/// `operator`. The schema is null where the search path finds it; a function may be a type, too. Raises an error if the text is not one expression.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "pgrx reads it as it is written")]
fn _names_in_expression(
    text: Text<'_>,
) -> Result<
    TableIterator<
        'static,
        (name!(kind, &'static str), name!(schema, Option<TextResult>), name!(name, TextResult)),
    >,
    ErrorReport,
> {
    let mut names = Names { found: Vec::new(), is_odd: false };
    // SAFETY: the tree of an expression, and what the walker is told to pass on.
    unsafe {
        let expression = parse(text)?.ok_or(Error::NotOneExpression)?;
        let names = (&raw mut names).cast();
        pg_guard_ffi_boundary(|| see_names(expression, names));
    }
    if names.is_odd {
        return Err(Error::NotOneExpression.into());
    }
    let copy = |text: &CStr| Varlena::copy_of(text.to_bytes()).map(TextResult);
    let rows = names
        .found
        .iter()
        .map(|(kind, schema, name)| Ok((*kind, schema.as_deref().map(copy).transpose()?, copy(name)?)));
    Ok(TableIterator::new(rows.collect::<Result<Vec<_>, Error>>()?))
}

/// `prism_crypt._constants_open(expression text) → boolean`: whether the keys of this database open every text form in an expression. It does not
/// tell what is in them.
#[pg_extern(sql = false)]
fn _constants_open(expression: Text<'_>, fcinfo: pg_sys::FunctionCallInfo) -> SqlResult<bool> {
    require_execute(fcinfo)?;
    let is_of_form = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'+' | b'/' | b'=');
    let words = expression.0.bytes().split(|byte| !is_of_form(byte));
    let mut all = true;
    for word in words.filter(|word| armor::is_armored(word)) {
        let mut value = Varlena::new(armor::decoded_len_estimate(word.len()))?;
        let length = armor::decode_into(word, value.bytes_mut()).unwrap_or(0);
        let envelope = value.bytes().get(..length).map(Envelope::parse);
        // What is no text form is a text like another.
        all &= !envelope.is_some_and(|envelope| envelope.is_ok_and(|it| keyring::check(&it).is_err()));
        value.free();
    }
    Ok(all)
}

struct Names {
    found: Vec<(&'static str, Option<CString>, CString)>,
    /// There is something whose names are not seen, or that no expression of a column may have.
    is_odd: bool,
}

impl Names {
    /// # Safety
    /// A list of nodes that are strings, as names are in a parse tree.
    unsafe fn add(&mut self, kind: &'static str, list: *mut pg_sys::List) {
        // SAFETY: as promised by the caller; what is no string is odd.
        let parts: Option<Vec<CString>> = unsafe {
            (0..nodes::length(list)).map(|at| string_of(nodes::nth(list, at)).map(CStr::to_owned)).collect()
        };
        match parts.as_deref() {
            Some([name]) => self.found.push((kind, None, name.clone())),
            Some([schema, name]) => self.found.push((kind, Some(schema.clone()), name.clone())),
            _ => self.is_odd = true,
        }
    }
}

/// # Safety
/// A node of a parse tree, or null.
unsafe fn string_of<'a>(node: *mut pg_sys::Node) -> Option<&'a CStr> {
    // SAFETY: as promised by the caller; the kind is looked at first, and a string's text is terminated.
    unsafe {
        if node.is_null() || (*node).type_ != pg_sys::NodeTag::T_String {
            return None;
        }
        #[cfg(feature = "pg14")]
        let text = (*node.cast::<pg_sys::Value>()).val.str_;
        #[cfg(not(feature = "pg14"))]
        let text = (*node.cast::<pg_sys::String>()).sval;
        Some(CStr::from_ptr(text))
    }
}

/// Not guarded: it has nothing to drop but what grows in `names`, which a caller owns beyond an error.
unsafe extern "C-unwind" fn see_names(node: *mut pg_sys::Node, names: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: a node of a parse tree, whose kind says what it is; `names` is what the walk began with.
    unsafe {
        let seen = &mut *names.cast::<Names>();
        match (*node).type_ {
            pg_sys::NodeTag::T_TypeName => {
                let named = node.cast::<pg_sys::TypeName>();
                if (*named).pct_type || (*named).names.is_null() {
                    seen.is_odd = true;
                } else {
                    seen.add("type", (*named).names);
                }
            }
            pg_sys::NodeTag::T_FuncCall => seen.add("function", (*node.cast::<pg_sys::FuncCall>()).funcname),
            pg_sys::NodeTag::T_A_Expr => {
                let names = (*node.cast::<pg_sys::A_Expr>()).name;
                if nodes::length(names) > 0 {
                    seen.add("operator", names);
                }
            }
            pg_sys::NodeTag::T_SubLink | pg_sys::NodeTag::T_SelectStmt => seen.is_odd = true,
            _ => {}
        }
        check_stack_depth();
        seen.is_odd || raw_expression_tree_walker(node, see_names, names)
    }
}

/// The one expression that a text is.
///
/// # Safety
/// Inside a transaction. The tree is in the current memory.
unsafe fn parse(text: Text<'_>) -> Result<Option<*mut pg_sys::Node>, Error> {
    let text = terminated(text)?;
    // SAFETY: a terminated text; what the parser gives is a list of statements, whose kind is looked at before it is read as one.
    unsafe {
        let statements = pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_PLPGSQL_EXPR);
        if statements.is_null() || (*statements).length != 1 {
            return Ok(None);
        }
        let statement = (*(*statements).elements).ptr_value.cast::<pg_sys::RawStmt>();
        let select = (*statement).stmt.cast::<pg_sys::SelectStmt>();
        if (*select).type_ != pg_sys::NodeTag::T_SelectStmt {
            return Ok(None);
        }
        // "SELECT" with one expression; PL/pgSQL would allow clauses after it.
        let lists = [
            (*select).distinctClause,
            (*select).fromClause,
            (*select).groupClause,
            (*select).windowClause,
            (*select).valuesLists,
            (*select).sortClause,
            (*select).lockingClause,
        ];
        let nodes =
            [(*select).whereClause, (*select).havingClause, (*select).limitOffset, (*select).limitCount];
        if lists.iter().any(|list| !list.is_null())
            || nodes.iter().any(|node| !node.is_null())
            || !(*select).intoClause.is_null()
            || !(*select).withClause.is_null()
            || (*select).op != pg_sys::SetOperation::SETOP_NONE
        {
            return Ok(None);
        }
        let targets = (*select).targetList;
        if targets.is_null() || (*targets).length != 1 {
            return Ok(None);
        }
        let target = (*(*targets).elements).ptr_value.cast::<pg_sys::ResTarget>();
        let is_one = (*target).name.is_null() && (*target).indirection.is_null() && !is_star((*target).val);
        Ok(is_one.then_some((*target).val))
    }
}

/// # Safety
/// A node of a parse tree.
unsafe fn is_star(node: *mut pg_sys::Node) -> bool {
    // SAFETY: as promised by the caller; the kind is looked at first.
    unsafe {
        if node.is_null() || (*node).type_ != pg_sys::NodeTag::T_ColumnRef {
            return node.is_null();
        }
        let fields = (*node.cast::<pg_sys::ColumnRef>()).fields;
        let last = (*(*fields).elements.add(usize::try_from((*fields).length - 1).unwrap_or(0))).ptr_value;
        (*last.cast::<pg_sys::Node>()).type_ == pg_sys::NodeTag::T_A_Star
    }
}

/// `prism_crypt._type_of(text, OUT type oid, OUT modifier integer)`: the type that a text names, as in a definition of a column.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "pgrx reads it as it is written")]
fn _type_of(
    text: Text<'_>,
) -> Result<TableIterator<'static, (name!(type_oid, pg_sys::Oid), name!(modifier, i32))>, ErrorReport> {
    let text = terminated(text)?;
    let (mut kind, mut modifier) = (pg_sys::InvalidOid, -1);
    // SAFETY: a terminated text; raises an error if it names no type.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        pg_sys::parseTypeString(text.as_ptr(), &raw mut kind, &raw mut modifier, false);
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        pg_sys::parseTypeString(text.as_ptr(), &raw mut kind, &raw mut modifier, std::ptr::null_mut());
    }
    Ok(TableIterator::once((kind, modifier)))
}

fn terminated(text: Text<'_>) -> Result<CString, Error> {
    CString::new(text.0.bytes()).map_err(|_| Error::Internal("a text with a zero byte"))
}
