//! A file that appears as a whole with mode 0600, or not at all, and never in place of another one.

use crate::error::{Error, Result};
use rustix::fs::{self, AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Being written. It has no name until [`publish`](Self::publish), so that nothing is left of it, whatever ends the process.
pub struct NewFile {
    file: Unpublished,
    path: PathBuf,
}

enum Unpublished {
    Nameless(File),
    /// Where the file system knows no files without a name.
    Temporary(NamedTempFile),
}

impl NewFile {
    /// In the directory of that path.
    ///
    /// # Errors
    /// [`Error::FileExists`], [`Error::File`].
    pub fn create(path: &Path) -> Result<Self> {
        if path.symlink_metadata().is_ok() {
            return Err(Error::FileExists(path.display().to_string()));
        }
        let failed = |error| Error::file("create", path, error);
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::TMPFILE;
        let file = match fs::open(directory_of(path), flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Unpublished::Nameless(File::from(file)),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                Unpublished::Temporary(NamedTempFile::new_in(directory_of(path)).map_err(failed)?)
            }
            Err(errno) => return Err(failed(errno.into())),
        };
        Ok(Self { file, path: path.to_owned() })
    }

    /// Gives it its name once all of it is on the disk. Its length in bytes.
    ///
    /// # Errors
    /// [`Error::FileExists`] if somebody else has made one meanwhile, [`Error::File`].
    pub fn publish(self) -> Result<u64> {
        let Self { file, path } = self;
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::FileExists(path.display().to_string()),
            _ => Error::file("write", &path, error),
        };
        let file = match file {
            Unpublished::Nameless(file) => {
                file.sync_all().map_err(failed)?;
                // A file without a name gets one through its descriptor: open(2), `O_TMPFILE`.
                let descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
                fs::linkat(CWD, descriptor.as_str(), CWD, &path, AtFlags::SYMLINK_FOLLOW)
                    .map_err(|errno| failed(errno.into()))?;
                file
            }
            Unpublished::Temporary(file) => {
                file.as_file().sync_all().map_err(failed)?;
                file.persist_noclobber(&path).map_err(|error| failed(error.error))?
            }
        };
        let directory = File::open(directory_of(&path)).map_err(failed)?;
        directory.sync_all().map_err(failed)?;
        Ok(file.metadata().map_err(failed)?.len())
    }

    fn file(&mut self) -> &mut File {
        match &mut self.file {
            Unpublished::Nameless(file) => file,
            Unpublished::Temporary(file) => file.as_file_mut(),
        }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
