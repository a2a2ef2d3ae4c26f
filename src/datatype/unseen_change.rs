//! An ALTER TABLE that was already running when the library was loaded, so that the hook has not seen it. If it has no USING,
//! the cast that converts a column raises the error instead. Covers top-level statements only, not those inside a function.

use super::portal::running_statement;
use super::type_lookup;
use crate::error::Error;
use crate::nodes::length;
use pgrx::pg_sys;
use std::ffi::CStr;
use std::ptr::null_mut;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

static IS_RUNNING: AtomicBool = AtomicBool::new(false);

/// Called when the library is loaded.
pub fn init() {
    IS_RUNNING.store(!running_change().is_null(), Relaxed);
}

/// Whether such a statement may be running.
#[inline]
pub fn may_be_running() -> bool {
    IS_RUNNING.load(Relaxed)
}

/// Refuses the running call, a cast from the type, if such a statement makes it.
#[inline]
pub fn check(fcinfo: pg_sys::FunctionCallInfo) -> Result<(), Error> {
    if IS_RUNNING.load(Relaxed) { check_call(fcinfo) } else { Ok(()) }
}

fn check_call(fcinfo: pg_sys::FunctionCallInfo) -> Result<(), Error> {
    let statement = running_change();
    if statement.is_null() {
        // The hook sees every later statement.
        IS_RUNNING.store(false, Relaxed);
        return Ok(());
    }
    // SAFETY: PostgreSQL passes a valid call, whose expression is null or a node. The statement lives while it runs, and its
    // commands are `AlterTableCmd` nodes, whose subtype gives the type of their definition.
    unsafe {
        let function = (*fcinfo).flinfo;
        let expression = if function.is_null() { null_mut() } else { (*function).fn_expr };
        let Some(column) = column_cast_by(expression) else { return Ok(()) };
        let commands = (*statement).cmds;
        for at in 0..length(commands) {
            let command = &*pg_sys::list_nth(commands, at).cast::<pg_sys::AlterTableCmd>();
            if command.subtype == pg_sys::AlterTableType::AT_AlterColumnType
                && !command.def.is_null()
                && (*command.def.cast::<pg_sys::ColumnDef>()).raw_default.is_null()
                && is_column((*statement).relation, command.name, column)
            {
                let column = CStr::from_ptr(command.name).to_string_lossy().into_owned();
                let of_composite = (*statement).objtype == pg_sys::ObjectType::OBJECT_TYPE;
                return Err(Error::TypeChange { column, of_composite });
            }
        }
    }
    Ok(())
}

/// The running ALTER TABLE, if the client sent one; otherwise null.
fn running_change() -> *mut pg_sys::AlterTableStmt {
    // SAFETY: the node's tag gives its type.
    let is_change = |statement| unsafe { pgrx::is_a(statement, pg_sys::NodeTag::T_AlterTableStmt) };
    running_statement(is_change).cast()
}

/// The number of the column that an expression casts implicitly.
///
/// # Safety
/// `expression` is null or a node.
unsafe fn column_cast_by(expression: *mut pg_sys::Node) -> Option<pg_sys::AttrNumber> {
    let implicit = pg_sys::CoercionForm::COERCE_IMPLICIT_CAST;
    // SAFETY: as promised by the caller; the tags give the types of the nodes.
    unsafe {
        if expression.is_null() {
            return None;
        }
        let (form, mut argument) = match (*expression).type_ {
            pg_sys::NodeTag::T_FuncExpr => {
                let call = &*expression.cast::<pg_sys::FuncExpr>();
                (
                    call.funcformat,
                    if length(call.args) > 0 { pg_sys::list_nth(call.args, 0) } else { null_mut() }.cast(),
                )
            }
            pg_sys::NodeTag::T_CoerceViaIO => {
                let conversion = &*expression.cast::<pg_sys::CoerceViaIO>();
                (conversion.coerceformat, conversion.arg.cast::<pg_sys::Node>())
            }
            _ => return None,
        };
        // From a domain to its base type.
        while pgrx::is_a(argument, pg_sys::NodeTag::T_RelabelType) {
            argument = (*argument.cast::<pg_sys::RelabelType>()).arg.cast();
        }
        let is_column = form == implicit && pgrx::is_a(argument, pg_sys::NodeTag::T_Var);
        is_column.then(|| (*argument.cast::<pg_sys::Var>()).varattno)
    }
}

/// Whether the column with this name has this number, in a table or in one that inherits from it.
///
/// # Safety
/// Inside a transaction; the name is a terminated string.
unsafe fn is_column(
    table: *mut pg_sys::RangeVar,
    name: *const std::ffi::c_char,
    number: pg_sys::AttrNumber,
) -> bool {
    // SAFETY: catalog look-ups. The statement has locked the tables.
    unsafe {
        let relation = type_lookup::named_relation(table);
        if relation == pg_sys::InvalidOid {
            return false;
        }
        let tables = type_lookup::with_heirs(relation);
        (0..length(tables)).any(|at| pg_sys::get_attnum(pg_sys::list_nth_oid(tables, at), name) == number)
    }
}
