//! Master keys from a file, under the same rules as PostgreSQL's `ssl_key_file`.

use super::{MAX_SOURCE_LEN, buffer, read_limited};
use crate::error::{Error, warn};
use pgrx::pg_sys;
use rustix::fs::OFlags;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// Reads the file. It must be a regular file. It must belong to the server's user and be closed to everybody else, or
/// belong to root and be closed to all but its group, which may read it.
pub fn contents(path: &OsStr) -> Result<Zeroizing<Vec<u8>>, Error> {
    let fail = |detail: String| Error::KeyFile { detail };
    let failed = |error: std::io::Error| fail(format!("{error}."));
    // Non-blocking, or a named pipe would hang the session. The checks use the open file, so nobody can swap it.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(fail("It is not a regular file.".to_owned()));
    }
    let forbidden = match metadata.uid() {
        0 => 0o027,
        owner if owner == rustix::process::geteuid().as_raw() => 0o077,
        _ => return Err(fail("It must belong to the server's user or to root.".to_owned())),
    };
    if metadata.mode() & forbidden != 0 {
        return Err(fail(
            "It must be closed to group and others: mode 0600 or less, or 0640 or less when it belongs to root."
                .to_owned(),
        ));
    }
    let mut contents = buffer();
    if read_limited(file, &mut contents).map_err(failed)? > MAX_SOURCE_LEN {
        return Err(fail(format!("It is longer than {MAX_SOURCE_LEN} bytes.")));
    }
    warn_inside_data_directory(Path::new(path));
    Ok(contents)
}

/// A key inside the data directory is in every base backup, next to what it protects.
fn warn_inside_data_directory(path: &Path) {
    // SAFETY: a NUL-terminated global that is set before any session begins.
    let data_directory = unsafe { std::ffi::CStr::from_ptr(pg_sys::DataDir) };
    let inside = data_directory.to_str().is_ok_and(|directory| {
        let (path, directory) = (path.canonicalize(), Path::new(directory).canonicalize());
        path.is_ok_and(|path| directory.is_ok_and(|directory| path.starts_with(directory)))
    });
    if inside {
        warn(
            "the master key file is inside the data directory",
            Some("Every base backup will contain it."),
            None,
        );
    }
}
