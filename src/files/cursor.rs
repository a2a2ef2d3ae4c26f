//! A query whose rows are seen one by one, as they come out of its plan, so that none has to be kept.

use super::plan::Plan;
use crate::error::Error;
use pgrx::{pg_guard, pg_sys};
use std::ffi::{CStr, CString, c_int, c_long, c_void};
use std::ptr::{null, null_mut};
use std::thread::panicking;

/// An open query, which lives to the end of the transaction at most. It is known by its name, so that a function may come back to it.
pub struct Cursor(CString);

impl Cursor {
    /// The query is planned and run with the rights of the current role, in a snapshot of this moment.
    pub fn open(query: &CStr) -> Result<Self, Error> {
        Plan::with(query, |plan| {
            // SAFETY: connected to SPI; the portal takes over what it needs of the plan.
            unsafe {
                let portal = pg_sys::SPI_cursor_open(null(), plan.0, null_mut(), null(), false);
                Ok(Self(CStr::from_ptr((*portal).name).to_owned()))
            }
        })
    }

    fn portal(&self) -> Option<pg_sys::Portal> {
        // SAFETY: a look-up by name.
        let portal = unsafe { pg_sys::GetPortalByName(self.0.as_ptr()) };
        (!portal.is_null()).then_some(portal)
    }

    /// The types of its columns.
    pub fn types(&self) -> Result<Vec<pg_sys::Oid>, Error> {
        let portal = self.portal().ok_or(Error::StreamOver)?;
        // SAFETY: a portal that is open has a descriptor if it gives rows.
        unsafe {
            if (*portal).tupDesc.is_null() {
                return Ok(Vec::new());
            }
            let columns = pgrx::PgTupleDesc::from_pg_unchecked((*portal).tupDesc);
            Ok(columns.iter().map(|column| column.atttypid).collect())
        }
    }

    /// Passes the next rows to `see`, one by one, at most so many. How many there were; 0 at the end.
    pub fn fetch(&self, most: c_long, mut see: &mut See<'_>) -> Result<u64, Error> {
        let portal = self.portal().ok_or(Error::StreamOver)?;
        let mut receiver = Receiver {
            base: pg_sys::DestReceiver {
                receiveSlot: Some(receive),
                rStartup: Some(start),
                rShutdown: Some(end),
                rDestroy: Some(end),
                mydest: pg_sys::CommandDest::DestNone,
            },
            // It outlives the call, which is all that uses it.
            see: (&raw mut see).cast(),
        };
        // SAFETY: an open portal; the receiver begins with what PostgreSQL knows of it.
        let fetched = unsafe {
            let forward = pg_sys::FetchDirection::FETCH_FORWARD;
            pg_sys::PortalRunFetch(portal, forward, most, (&raw mut receiver).cast())
        };
        Ok(fetched)
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        // A transaction that ends has closed it, or will.
        // SAFETY: reads the state of the transaction; an open portal that is not running.
        unsafe {
            if !panicking()
                && pg_sys::IsTransactionState()
                && let Some(portal) = self.portal()
                && (*portal).status != pg_sys::PortalStatus::PORTAL_ACTIVE
            {
                pg_sys::PortalDrop(portal, false);
            }
        }
    }
}

/// Sees a row.
pub type See<'a> = dyn FnMut(*mut pg_sys::TupleTableSlot) -> Result<(), Error> + 'a;

#[repr(C)]
struct Receiver {
    base: pg_sys::DestReceiver,
    /// A `&mut See`.
    see: *mut c_void,
}

#[pg_guard]
unsafe extern "C-unwind" fn receive(
    slot: *mut pg_sys::TupleTableSlot,
    receiver: *mut pg_sys::DestReceiver,
) -> bool {
    // SAFETY: called by `fetch` only, with its receiver.
    let seen = unsafe { (*(*receiver.cast::<Receiver>()).see.cast::<&mut See<'_>>())(slot) };
    if let Err(error) = seen {
        error.raise();
    }
    true
}

unsafe extern "C-unwind" fn start(_: *mut pg_sys::DestReceiver, _: c_int, _: pg_sys::TupleDesc) {}

unsafe extern "C-unwind" fn end(_: *mut pg_sys::DestReceiver) {}
