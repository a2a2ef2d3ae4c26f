//! Finds utility statements that set the key setting, by their parse tree, where the name is decoded whatever its quoting; and
//! those that execute a prepared statement that may set it.

use super::client_text;
use super::naming::SETTING;
use pgrx::pg_sys;
use std::ffi::CStr;

/// # Safety
/// `node` is null or a utility statement.
pub unsafe fn is_named_by(node: *mut pg_sys::Node) -> bool {
    if node.is_null() {
        return false;
    }
    use pg_sys::NodeTag::*;
    // SAFETY: the node's tag says what it is.
    unsafe {
        match (*node).type_ {
            T_VariableSetStmt => is_set_by(node.cast()),
            T_AlterSystemStmt => is_set_by((*node.cast::<pg_sys::AlterSystemStmt>()).setstmt),
            T_AlterRoleSetStmt => is_set_by((*node.cast::<pg_sys::AlterRoleSetStmt>()).setstmt),
            T_AlterDatabaseSetStmt => is_set_by((*node.cast::<pg_sys::AlterDatabaseSetStmt>()).setstmt),
            T_CreateFunctionStmt => any_sets((*node.cast::<pg_sys::CreateFunctionStmt>()).options),
            T_AlterFunctionStmt => any_sets((*node.cast::<pg_sys::AlterFunctionStmt>()).actions),
            T_ExecuteStmt => {
                let name = (*node.cast::<pg_sys::ExecuteStmt>()).name;
                !name.is_null() && client_text::prepared(CStr::from_ptr(name).to_bytes()).setting
            }
            _ => false,
        }
    }
}

/// # Safety
/// `statement` is null or the parse tree of a SET.
unsafe fn is_set_by(statement: *const pg_sys::VariableSetStmt) -> bool {
    // SAFETY: as promised by the caller; a name is null or a terminated string.
    unsafe {
        !statement.is_null()
            && !(*statement).name.is_null()
            && CStr::from_ptr((*statement).name).to_bytes().eq_ignore_ascii_case(SETTING)
    }
}

/// # Safety
/// `options` is null or the list of a function's options.
unsafe fn any_sets(options: *const pg_sys::List) -> bool {
    if options.is_null() {
        return false;
    }
    // SAFETY: as promised by the caller. Options are DefElem nodes; the one of a SET clause holds the statement.
    unsafe {
        (0..(*options).length as usize).any(|at| {
            let option = (*(*options).elements.add(at)).ptr_value.cast::<pg_sys::DefElem>();
            let argument = (*option).arg;
            pgrx::is_a(argument, pg_sys::NodeTag::T_VariableSetStmt) && is_set_by(argument.cast())
        })
    }
}
