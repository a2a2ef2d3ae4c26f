//! Settings that say how values are written, as `pg_dump` has them. A query sees those of the session: only what it gives is written with these.

use pgrx::pg_sys;
use std::ffi::CStr;

/// What a setting must begin with, and what it is set to otherwise.
const WANTED: [(&CStr, &CStr); 3] =
    [(c"DateStyle", c"ISO"), (c"IntervalStyle", c"postgres"), (c"bytea_output", c"hex")];

/// Those that the session does not have.
pub struct OutputSettings(Vec<(&'static CStr, &'static CStr)>);

impl OutputSettings {
    /// For values of these types.
    pub fn of(mut types: impl Iterator<Item = pg_sys::Oid>) -> Self {
        // SAFETY: settings of PostgreSQL; what is read is terminated and copied at once.
        let value_of = |name: &CStr| unsafe {
            CStr::from_ptr(pg_sys::GetConfigOption(name.as_ptr(), false, false)).to_bytes().to_vec()
        };
        let mut others: Vec<_> = WANTED
            .into_iter()
            .filter(|(name, value)| !value_of(name).starts_with(value.to_bytes()))
            .collect();
        // From 1 on it is all digits.
        let digits = String::from_utf8(value_of(c"extra_float_digits"));
        if !digits.is_ok_and(|digits| digits.parse().is_ok_and(|digits: i32| digits > 0)) {
            others.push((c"extra_float_digits", c"3"));
        }
        // With their schemas.
        if types.any(is_name_of_object) {
            others.push((c"search_path", c"pg_catalog, pg_temp"));
        }
        Self(others)
    }

    /// Sets them until that is dropped, if there is something to set.
    pub fn begin(&self) -> Option<Level> {
        (!self.0.is_empty()).then(|| {
            // SAFETY: sets parameters for this level, as a function's SET clause does.
            unsafe {
                let level = Level(pg_sys::NewGUCNestLevel());
                for (name, value) in &self.0 {
                    pg_sys::set_config_option(
                        name.as_ptr(),
                        value.as_ptr(),
                        pg_sys::GucContext::PGC_USERSET,
                        pg_sys::GucSource::PGC_S_SESSION,
                        pg_sys::GucAction::GUC_ACTION_SAVE,
                        true,
                        0,
                        false,
                    );
                }
                level
            }
        })
    }
}

/// A level of settings. After an error PostgreSQL does what dropping it does.
pub struct Level(i32);

impl Drop for Level {
    fn drop(&mut self) {
        // SAFETY: ends the level that was begun.
        unsafe { pg_sys::AtEOXact_GUC(true, self.0) }
    }
}

fn is_name_of_object(kind: pg_sys::Oid) -> bool {
    [
        pg_sys::REGCLASSOID,
        pg_sys::REGTYPEOID,
        pg_sys::REGPROCOID,
        pg_sys::REGPROCEDUREOID,
        pg_sys::REGOPEROID,
        pg_sys::REGOPERATOROID,
        pg_sys::REGCONFIGOID,
        pg_sys::REGDICTIONARYOID,
        pg_sys::REGCOLLATIONOID,
    ]
    .contains(&kind)
}
