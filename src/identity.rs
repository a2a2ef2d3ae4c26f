//! Whose privileges the session currently runs with.

use crate::error::Error;
use pgrx::pg_sys;

unsafe extern "C-unwind" {
    // pgrx's own binding sets up an error boundary at each call, which costs more than the call.
    #[link_name = "GetUserIdAndSecContext"]
    fn role_and_context(role: *mut pg_sys::Oid, context: *mut i32);
}

/// The current role, and how the session got it.
#[derive(Clone, Copy)]
pub struct Identity {
    /// The role whose privileges count.
    pub role: pg_sys::Oid,
    context: u32,
}

impl Identity {
    /// The current identity.
    #[inline]
    pub fn current() -> Self {
        let (mut role, mut context) = (pg_sys::InvalidOid, 0);
        // SAFETY: reads two variables of this session.
        unsafe { role_and_context(&mut role, &mut context) };
        Self { role, context: context.cast_unsigned() }
    }

    fn take_on(self) {
        // SAFETY: sets two variables of this session.
        unsafe { pg_sys::SetUserIdAndSecContext(self.role, self.context.cast_signed()) }
    }

    /// Whether PostgreSQL switched to the role to check a foreign key: it sets `SECURITY_NOFORCE_RLS` for nothing else.
    #[inline]
    pub fn is_referential(self) -> bool {
        self.context & pg_sys::SECURITY_NOFORCE_RLS != 0
    }

    /// Whether the session runs with the privileges of a role that it did not switch to itself: inside a SECURITY DEFINER
    /// function, a foreign key check, or work done as a table's owner.
    #[inline]
    pub fn is_lent(self) -> bool {
        self.context & (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) != 0
    }

    /// Whether the session works as a table's owner and must not change its own state: REFRESH MATERIALIZED VIEW, ANALYZE,
    /// CREATE INDEX and the like.
    #[inline]
    pub fn is_restricted(self) -> bool {
        self.context & pg_sys::SECURITY_RESTRICTED_OPERATION != 0
    }
}

/// The role of the session's own statements: the one set with SET ROLE, or else the session user.
#[inline]
pub fn outer_role() -> pg_sys::Oid {
    // SAFETY: reads a variable of this session.
    unsafe { pg_sys::GetOuterUserId() }
}

/// Makes a function's owner the current role, as SECURITY DEFINER does, until dropped. After an error, PostgreSQL also
/// restores the role.
pub struct AsOwner(Identity);

impl AsOwner {
    /// Switches to the owner of this function.
    pub fn of(function: pg_sys::Oid) -> Result<Self, Error> {
        let before = Identity::current();
        // SAFETY: a catalog look-up whose row is read before it is released; sets two variables of this session.
        unsafe {
            let cache = pg_sys::SysCacheIdentifier::PROCOID as i32;
            let row = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(function));
            if row.is_null() {
                return Err(Error::Internal("a function has no owner"));
            }
            let owner = (*pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_proc>()).proowner;
            pg_sys::ReleaseSysCache(row);
            Identity { role: owner, context: before.context | pg_sys::SECURITY_LOCAL_USERID_CHANGE }
                .take_on();
        }
        Ok(Self(before))
    }
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        self.0.take_on();
    }
}
