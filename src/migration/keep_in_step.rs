//! The trigger that keeps the two columns of a migration in step.
//!
//! It runs with the rights of whoever writes, but judges by those of the table's owner, as a trigger function with its owner's rights
//! would: an application must not need other rights because somebody migrates a column. It calls nothing of others except output and
//! input functions of the column's type.

use super::call_cache::kept;
use super::conversion::Conversion;
use super::plaintext::{ValueType, are_alike};
use crate::datum::Node;
use crate::error::{Error, SqlResult};
use crate::privilege::{Right, may_encrypt, may_role};
use pgrx::prelude::*;
use pgrx::trigger_support::called_as_trigger;
use std::ffi::{CStr, c_char};

/// What the trigger does, by its third argument.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// `follow`, before the cut-over: the second column has the value of the first.
    Follow,
    /// `return`, after it: likewise. But an INSERT that names no columns puts the value where the column was before.
    Return,
    /// `clear`: nobody knows how to make the value here. It is made later where it is null.
    Clear,
    /// `forget`, after the cut-over of such a migration: there is no way back from a new value.
    Forget,
}

/// One column of the table.
#[derive(Clone, Copy)]
struct Column {
    number: i32,
    length: i16,
    by_value: bool,
    value_type: ValueType,
}

/// A running call of the trigger.
struct Call {
    descriptor: pg_sys::TupleDesc,
    /// The row before an UPDATE.
    old: Option<pg_sys::HeapTuple>,
    new: pg_sys::HeapTuple,
}

/// `prism_crypt._keep_in_step() → trigger`, BEFORE INSERT OR UPDATE FOR EACH ROW, with the arguments source, target, mode.
#[pg_extern(sql = false)]
fn _keep_in_step(fcinfo: pg_sys::FunctionCallInfo) -> SqlResult<Node> {
    // SAFETY: the context of a trigger call has the trigger, its relation and its rows.
    unsafe {
        if !called_as_trigger(fcinfo) {
            return Err(Error::NotTrigger.into());
        }
        let data = &*(*fcinfo).context.cast::<pg_sys::TriggerData>();
        let columns = kept(fcinfo, || Columns::of(data))?;
        Ok(Node::of(row_for(data, columns)?.cast()))
    }
}

/// What the trigger does to which columns of its table.
#[derive(Clone, Copy)]
struct Columns {
    source: Column,
    target: Column,
    mode: Mode,
}

impl Columns {
    /// # Safety
    /// The data of a running trigger.
    unsafe fn of(data: &pg_sys::TriggerData) -> Result<Self, Error> {
        // SAFETY: as promised by the caller.
        unsafe {
            let trigger = &*data.tg_trigger;
            let unfit = || Error::UnfitTrigger(name_of(trigger.tgname));
            if trigger.tgnargs != 3 {
                return Err(unfit());
            }
            let argument = |index: usize| *trigger.tgargs.add(index);
            let descriptor = (*data.tg_relation).rd_att;
            let column = |index| Column::find(descriptor, argument(index)).ok_or_else(unfit);
            let (source, target) = (column(0)?, column(1)?);
            let mode = match CStr::from_ptr(argument(2)).to_bytes() {
                b"follow" => Mode::Follow,
                b"return" => Mode::Return,
                b"clear" => Mode::Clear,
                b"forget" => Mode::Forget,
                _ => return Err(unfit()),
            };
            let follows = matches!(mode, Mode::Follow | Mode::Return);
            if follows && source.value_type.is_sealed() == target.value_type.is_sealed() {
                return Err(unfit());
            }
            if follows && !is_made_by_owner(trigger.tgoid) {
                return Err(Error::ForeignTrigger(name_of(trigger.tgname)));
            }
            Ok(Self { source, target, mode })
        }
    }
}

/// The row to be written.
///
/// # Safety
/// The data of a running trigger, and its columns.
unsafe fn row_for(data: &pg_sys::TriggerData, columns: Columns) -> Result<pg_sys::HeapTuple, Error> {
    // SAFETY: as promised by the caller. A trigger that fires BEFORE … FOR EACH ROW has the row, and one for UPDATE the new one, too.
    unsafe {
        let descriptor = (*data.tg_relation).rd_att;
        let call = match data.tg_event & (pg_sys::TRIGGER_EVENT_OPMASK | ROW | BEFORE) {
            INSERTED => Call { descriptor, old: None, new: data.tg_trigtuple },
            UPDATED => Call { descriptor, old: Some(data.tg_trigtuple), new: data.tg_newtuple },
            _ => return Err(Error::UnfitTrigger(name_of((*data.tg_trigger).tgname))),
        };
        let Columns { source, target, mode } = columns;
        match mode {
            Mode::Clear => Ok(call.cleared(target)),
            Mode::Forget => Ok(call.forgotten(source, target)),
            Mode::Follow | Mode::Return => call.kept_in_step(source, target, mode, |conversion| {
                require_rights(&*data.tg_relation, conversion)
            }),
        }
    }
}

const ROW: u32 = pg_sys::TRIGGER_EVENT_ROW;
const BEFORE: u32 = pg_sys::TRIGGER_EVENT_BEFORE;
const INSERTED: u32 = pg_sys::TRIGGER_EVENT_INSERT | ROW | BEFORE;
const UPDATED: u32 = pg_sys::TRIGGER_EVENT_UPDATE | ROW | BEFORE;

impl Column {
    /// # Safety
    /// A descriptor and a terminated string.
    unsafe fn find(descriptor: pg_sys::TupleDesc, name: *const c_char) -> Option<Self> {
        // SAFETY: as promised by the caller; the number is one of the descriptor's.
        unsafe {
            let number = pg_sys::SPI_fnumber(descriptor, name);
            if number <= 0 {
                return None;
            }
            let attribute = pgrx::PgTupleDesc::from_pg_unchecked(descriptor);
            let attribute = attribute.get(number as usize - 1)?;
            Some(Self {
                number,
                length: attribute.attlen,
                by_value: attribute.attbyval,
                value_type: ValueType::new(attribute.atttypid, attribute.atttypmod),
            })
        }
    }
}

impl Call {
    /// # Safety
    /// The call's row before or after, and a column of it.
    unsafe fn value(&self, row: pg_sys::HeapTuple, column: Column) -> Option<pg_sys::Datum> {
        // SAFETY: as promised by the caller.
        unsafe { self.at(row, column.number) }
    }

    /// # Safety
    /// The call's row before or after, and the number of a column.
    unsafe fn at(&self, row: pg_sys::HeapTuple, number: i32) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: as promised by the caller.
        let datum = unsafe { pg_sys::heap_getattr(row, number, self.descriptor, &mut is_null) };
        (!is_null).then_some(datum)
    }

    /// The new row with another value in a column.
    ///
    /// # Safety
    /// A value of the column's type.
    unsafe fn with(&self, column: Column, value: Option<pg_sys::Datum>) -> pg_sys::HeapTuple {
        let (mut number, mut datum) = (column.number, value.unwrap_or(pg_sys::Datum::null()));
        let mut is_null = value.is_none();
        // SAFETY: one column of this row, with a value of its type as promised by the caller.
        unsafe {
            pg_sys::heap_modify_tuple_by_cols(
                self.new,
                self.descriptor,
                1,
                &raw mut number,
                &raw mut datum,
                &raw mut is_null,
            )
        }
    }

    /// # Safety
    /// Columns of this table.
    unsafe fn kept_in_step(
        &self,
        source: Column,
        target: Column,
        mode: Mode,
        require_rights: impl Fn(Conversion) -> Result<(), Error>,
    ) -> Result<pg_sys::HeapTuple, Error> {
        let conversion = Conversion { source: source.value_type, target: target.value_type };
        // SAFETY: values of these columns, and of their types.
        unsafe {
            let (given, found) = (self.value(self.new, source), self.value(self.new, target));
            if let (None, Mode::Return, Some(found)) = (self.old, mode, found) {
                let back = Conversion { source: target.value_type, target: source.value_type };
                // A value that is given for the source, too, is compared.
                require_rights(conversion)?;
                require_rights(back)?;
                return self.taken_back(source, given, found, back);
            }
            if let Some(old) = self.old
                && found.is_some() == given.is_some()
                && is_same(self.value(old, source), given, source.length, source.by_value)
            {
                return Ok(self.new);
            }
            let Some(given) = given else {
                return Ok(if found.is_none() { self.new } else { self.with(target, None) });
            };
            require_rights(conversion)?;
            Ok(self.with(target, Some(conversion.convert(given)?)))
        }
    }

    /// An INSERT after the cut-over gave a value for the column that is kept: then it was meant for the other one.
    ///
    /// # Safety
    /// `given` is a value of the source, `found` one of the target, and `back` leads from this to that.
    unsafe fn taken_back(
        &self,
        source: Column,
        given: Option<pg_sys::Datum>,
        found: pg_sys::Datum,
        back: Conversion,
    ) -> Result<pg_sys::HeapTuple, Error> {
        // SAFETY: as promised by the caller.
        unsafe {
            if let Some(given) = given
                && back.is_in_step(found, given)?
            {
                return Ok(self.new);
            }
            Ok(self.with(source, Some(back.convert(found)?)))
        }
    }

    /// The new row without a value in the target, if an UPDATE gave the source another one, but not the target.
    ///
    /// # Safety
    /// Columns of this table.
    unsafe fn forgotten(&self, source: Column, target: Column) -> pg_sys::HeapTuple {
        // SAFETY: the rows have these columns.
        unsafe {
            let (Some(old), Some(_)) = (self.old, self.value(self.new, target)) else { return self.new };
            let is_unchanged = |column: Column| {
                let values = (self.value(old, column), self.value(self.new, column));
                is_same(values.0, values.1, column.length, column.by_value)
            };
            if !is_unchanged(target) || is_unchanged(source) { self.new } else { self.with(target, None) }
        }
    }

    /// The new row without a value in the target, if anything else in the row is new, and nobody gave the target another value.
    ///
    /// # Safety
    /// A column of this table.
    unsafe fn cleared(&self, target: Column) -> pg_sys::HeapTuple {
        // SAFETY: the rows have these columns.
        unsafe {
            let Some(found) = self.value(self.new, target) else { return self.new };
            let Some(old) = self.old else { return self.with(target, None) };
            if !is_same(self.value(old, target), Some(found), target.length, target.by_value) {
                return self.new;
            }
            let columns = pgrx::PgTupleDesc::from_pg_unchecked(self.descriptor);
            let is_changed = columns.iter().zip(1..).any(|(attribute, number)| {
                // Generated columns follow from the others, and are null here once a trigger of another language has run.
                if attribute.attisdropped || attribute.attgenerated != 0 || number == target.number {
                    return false;
                }
                let (old, new) = (self.at(old, number), self.at(self.new, number));
                !is_same(old, new, attribute.attlen, attribute.attbyval)
            });
            if is_changed { self.with(target, None) } else { self.new }
        }
    }
}

/// Whether the table's owner has made a trigger, or wants it. The privilege TRIGGER, which many have who write, is enough for
/// CREATE TRIGGER, but not for `ALTER TRIGGER … DEPENDS ON EXTENSION`. A trigger of a partition comes from its table's.
///
/// # Safety
/// Inside a transaction.
unsafe fn is_made_by_owner(trigger: pg_sys::Oid) -> bool {
    let mut trigger = trigger;
    // SAFETY: catalog look-ups.
    unsafe {
        let extension = pg_sys::get_extension_oid(c"prism_crypt".as_ptr(), true);
        while trigger != pg_sys::InvalidOid {
            let extensions = pg_sys::getAutoExtensionsOfObject(pg_sys::TriggerRelationId, trigger);
            if pg_sys::list_member_oid(extensions, extension) {
                return true;
            }
            trigger = parent_of(trigger);
        }
    }
    false
}

/// The trigger of the partitioned table that a trigger comes from; an invalid oid if there is none.
///
/// # Safety
/// Inside a transaction.
unsafe fn parent_of(trigger: pg_sys::Oid) -> pg_sys::Oid {
    let lock = pg_sys::AccessShareLock.cast_signed();
    // SAFETY: the usual scan of a catalog by its index; the row is read before it is released.
    unsafe {
        let catalog = pg_sys::table_open(pg_sys::TriggerRelationId, lock);
        let mut key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyInit(
            &raw mut key,
            pg_sys::Anum_pg_trigger_oid as i16,
            pg_sys::BTEqualStrategyNumber as u16,
            pg_sys::Oid::from(pg_sys::F_OIDEQ),
            pg_sys::Datum::from(trigger),
        );
        let scan = pg_sys::systable_beginscan(
            catalog,
            pg_sys::Oid::from(pg_sys::TriggerOidIndexId),
            true,
            std::ptr::null_mut(),
            1,
            &raw mut key,
        );
        let row = pg_sys::systable_getnext(scan);
        let parent = if row.is_null() {
            pg_sys::InvalidOid
        } else {
            (*pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_trigger>()).tgparentid
        };
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(catalog, lock);
        parent
    }
}

/// Whether an UPDATE left a value as it was.
///
/// # Safety
/// Values of one type, of this length and way of being passed.
unsafe fn is_same(
    old: Option<pg_sys::Datum>,
    new: Option<pg_sys::Datum>,
    length: i16,
    by_value: bool,
) -> bool {
    match (old, new) {
        // SAFETY: as promised by the caller.
        (Some(old), Some(new)) => unsafe { are_alike(old, new, length, by_value) },
        (old, new) => old.is_none() && new.is_none(),
    }
}

/// Fails unless the table's owner may do what the trigger does.
fn require_rights(relation: &pg_sys::RelationData, conversion: Conversion) -> Result<(), Error> {
    let Conversion { source, target } = conversion;
    // SAFETY: the relation of a running trigger.
    let (form, owner) = unsafe { (&*relation.rd_rel, (*relation.rd_rel).relowner) };
    let sealed = if source.is_sealed() { source } else { target };
    let function = sealed.output_function();
    // SAFETY: a name is terminated.
    let denied = |right| Error::OwnerDenied { table: unsafe { name_of(form.relname.data.as_ptr()) }, right };
    if source.is_sealed() {
        return if may_role(Right::Decrypt(function), owner) { Ok(()) } else { Err(denied("decrypt")) };
    }
    if target.is_searchable() && !may_role(Right::Search(function), owner) {
        return Err(denied("search"));
    }
    if may_encrypt(function, owner) { Ok(()) } else { Err(denied("encrypt")) }
}

/// # Safety
/// A terminated string.
unsafe fn name_of(name: *const c_char) -> String {
    // SAFETY: as promised by the caller.
    unsafe { CStr::from_ptr(name).to_string_lossy().into_owned() }
}
