//! ALTER TABLE that changes a column from `encrypted_text` to another type: refused unless the statement asks for decryption
//! with USING. If it does, warnings say what stays encrypted.

use crate::census::has_sealed_constant;
use crate::datatype::{nested, type_lookup};
use crate::error::{Error, warn};
use crate::nodes::length;
use pgrx::prelude::*;
use std::ffi::{CStr, c_char};
use std::ptr::null_mut;

/// The columns that a statement changes to a type without encryption.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Change {
    /// Invalid if the statement converts no values.
    relation: pg_sys::Oid,
    /// Their names, as C strings; null if there are none.
    columns: *mut pg_sys::List,
}

const NOTHING: Change = Change { relation: pg_sys::InvalidOid, columns: null_mut() };

/// Looks at a statement that is about to be run.
///
/// # Safety
/// `node` is null or a utility statement.
#[pg_guard]
pub unsafe extern "C-unwind" fn before(node: *mut pg_sys::Node) -> Change {
    // SAFETY: the node's tag says what it is.
    unsafe {
        if !pgrx::is_a(node, pg_sys::NodeTag::T_AlterTableStmt) || !pg_sys::IsTransactionState() {
            return NOTHING;
        }
        match change_of(&*node.cast::<pg_sys::AlterTableStmt>()) {
            Ok(change) => change,
            Err(error) => {
                error.raise();
                NOTHING
            }
        }
    }
}

/// # Safety
/// PostgreSQL's own statement, inside a transaction.
unsafe fn change_of(statement: &pg_sys::AlterTableStmt) -> Result<Change, Error> {
    let mut change = NOTHING;
    // SAFETY: a list of commands that PostgreSQL made; catalog look-ups inside a transaction.
    unsafe {
        for at in 0..length(statement.cmds) {
            let command = &*pg_sys::list_nth(statement.cmds, at).cast::<pg_sys::AlterTableCmd>();
            if command.subtype != pg_sys::AlterTableType::AT_AlterColumnType || command.def.is_null() {
                continue;
            }
            if change.relation == pg_sys::InvalidOid {
                change.relation = relation_with_values(statement);
            }
            let definition = &*command.def.cast::<pg_sys::ColumnDef>();
            if change.relation == pg_sys::InvalidOid
                || !is_taken_away(change.relation, command.name, definition)
            {
                continue;
            }
            if definition.raw_default.is_null() {
                let of_composite = statement.objtype == pg_sys::ObjectType::OBJECT_TYPE;
                return Err(Error::TypeChange { column: text_of(command.name), of_composite });
            }
            change.columns = pg_sys::lappend(change.columns, pg_sys::pstrdup(command.name).cast());
        }
    }
    Ok(change)
}

/// The relation whose values the statement converts. A foreign table stores none here. A composite type has only those of its
/// typed tables, which CASCADE includes.
///
/// # Safety
/// As [`change_of`].
unsafe fn relation_with_values(statement: &pg_sys::AlterTableStmt) -> pg_sys::Oid {
    // SAFETY: as promised by the caller.
    unsafe {
        let relation = type_lookup::named_relation(statement.relation);
        let has_values = relation != pg_sys::InvalidOid
            && match pg_sys::get_rel_relkind(relation) as u8 {
                pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE => true,
                pg_sys::RELKIND_COMPOSITE_TYPE => cascades(statement),
                _ => false,
            };
        if has_values { relation } else { pg_sys::InvalidOid }
    }
}

/// Whether any command has CASCADE.
///
/// # Safety
/// As [`change_of`].
unsafe fn cascades(statement: &pg_sys::AlterTableStmt) -> bool {
    // SAFETY: a list of commands.
    unsafe {
        (0..length(statement.cmds)).any(|at| {
            let command = pg_sys::list_nth(statement.cmds, at).cast::<pg_sys::AlterTableCmd>();
            (*command).behavior == pg_sys::DropBehavior::DROP_CASCADE
        })
    }
}

/// Whether a column holds encrypted values but its new type can't.
///
/// # Safety
/// Inside a transaction; the name is a terminated string.
unsafe fn is_taken_away(
    relation: pg_sys::Oid,
    column: *const c_char,
    definition: &pg_sys::ColumnDef,
) -> bool {
    // SAFETY: as promised by the caller. PostgreSQL itself reports a missing column or type.
    unsafe {
        let number = pg_sys::get_attnum(relation, column);
        if number <= 0 || definition.typeName.is_null() {
            return false;
        }
        let old = pg_sys::get_atttype(relation, number);
        if old == pg_sys::InvalidOid || !nested::holds(old).encrypted {
            return false;
        }
        let new = pg_sys::LookupTypeNameOid(null_mut(), definition.typeName, true);
        new != pg_sys::InvalidOid && !nested::holds(new).encrypted
    }
}

/// Warns of what stays encrypted after a statement, in the table and in the tables that inherit from it.
///
/// # Safety
/// Inside a transaction, after the statement that [`before`] looked at.
#[pg_guard]
pub unsafe extern "C-unwind" fn after(change: Change) {
    if change.columns.is_null() {
        return;
    }
    // SAFETY: lists that PostgreSQL and `change_of` made. The statement has locked the tables.
    unsafe {
        let tables = type_lookup::with_heirs(change.relation);
        for at in 0..length(tables) {
            if let Err(error) = warn_of(pg_sys::list_nth_oid(tables, at), change.columns) {
                error.raise();
            }
        }
    }
}

/// # Safety
/// As [`after`].
unsafe fn warn_of(table: pg_sys::Oid, columns: *mut pg_sys::List) -> Result<(), Error> {
    let lock = pg_sys::AccessShareLock as i32;
    // SAFETY: the relation is open while it is read; the counts are those of its defaults and constraints.
    unsafe {
        let relation = pg_sys::try_relation_open(table, lock);
        if relation.is_null() {
            return Ok(());
        }
        let constraints = (*(*relation).rd_att).constr;
        let (defaults, checks): (&[pg_sys::AttrDefault], &[pg_sys::ConstrCheck]) = if constraints.is_null() {
            (&[], &[])
        } else {
            let constraints = &*constraints;
            (
                slice(constraints.defval, constraints.num_defval),
                slice(constraints.check, constraints.num_check),
            )
        };
        for at in 0..length(columns) {
            let name = pg_sys::list_nth(columns, at).cast::<c_char>();
            let number = pg_sys::get_attnum(table, name);
            for default in defaults.iter().filter(|default| default.adnum == number) {
                if has_sealed_constant(CStr::from_ptr(default.adbin).to_bytes())? {
                    warn_of_default(table, &text_of(name));
                }
            }
            for check in checks {
                let tree = CStr::from_ptr(check.ccbin);
                if has_sealed_constant(tree.to_bytes())? && names_column(tree, number) {
                    warn_of_check(table, &text_of(check.ccname));
                }
            }
        }
        pg_sys::relation_close(relation, lock);
    }
    Ok(())
}

fn warn_of_default(table: pg_sys::Oid, column: &str) {
    let table = name_of(table);
    let message = format!("the default of column \"{column}\" of relation \"{table}\" is still encrypted");
    warn(
        &message,
        Some("It is opened at every INSERT that uses it, which needs a key and the right to decrypt."),
        Some("ALTER TABLE … ALTER COLUMN … SET DEFAULT with the plaintext, or DROP DEFAULT, clears it."),
    );
}

fn warn_of_check(table: pg_sys::Oid, constraint: &str) {
    let table = name_of(table);
    let message =
        format!("constraint \"{constraint}\" of relation \"{table}\" still has an encrypted constant");
    warn(&message, None, Some("Drop the constraint, and add it again with the plaintext."));
}

/// Inside a transaction.
fn name_of(table: pg_sys::Oid) -> String {
    // SAFETY: a catalog look-up, which gives null or a terminated string.
    unsafe {
        let name = pg_sys::get_rel_name(table);
        if name.is_null() { String::new() } else { text_of(name) }
    }
}

/// Whether a stored expression names a column of its table.
///
/// # Safety
/// PostgreSQL stored the tree.
unsafe fn names_column(tree: &CStr, column: pg_sys::AttrNumber) -> bool {
    // SAFETY: as promised by the caller; PostgreSQL makes the set.
    unsafe {
        let mut columns = null_mut();
        pg_sys::pull_varattnos(pg_sys::stringToNode(tree.as_ptr()).cast(), 1, &mut columns);
        let first = pg_sys::FirstLowInvalidHeapAttributeNumber;
        pg_sys::bms_is_member(i32::from(column) - first, columns)
    }
}

/// # Safety
/// `first` points to `count` elements, or is null.
unsafe fn slice<'a, T>(first: *const T, count: u16) -> &'a [T] {
    // SAFETY: as promised by the caller.
    if first.is_null() { &[] } else { unsafe { std::slice::from_raw_parts(first, usize::from(count)) } }
}

/// # Safety
/// `name` is a terminated string.
unsafe fn text_of(name: *const c_char) -> String {
    // SAFETY: as promised by the caller.
    unsafe { CStr::from_ptr(name).to_string_lossy().into_owned() }
}
