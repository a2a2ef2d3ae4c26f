//! A file that appears as a whole, or not at all.

use crate::error::Error;
use rustix::fs::{self, AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

/// Being written. It has no name until [`publish`](Self::publish), so that nothing is left of it, whatever ends the process.
pub struct NewFile {
    file: File,
    directory: File,
    path: PathBuf,
    /// Where the file system knows no files without a name.
    temporary: Option<PathBuf>,
}

impl NewFile {
    /// In the directory of that path, which is absolute. Mode 0600.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let failed = |errno: Errno| Error::file("create", path, errno.into());
        let parent = path.parent().filter(|_| path.is_absolute() && path.file_name().is_some());
        let parent = parent.ok_or_else(|| Error::FilePath(path.display().to_string()))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = File::from(fs::open(parent, flags, Mode::empty()).map_err(failed)?);
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let (file, temporary) = match fs::openat(&directory, ".", flags | OFlags::TMPFILE, mode) {
            Ok(file) => (file, None),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
                let temporary = temporary_name(path);
                let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                (fs::openat(&directory, &temporary, flags, mode).map_err(failed)?, Some(temporary))
            }
            Err(errno) => return Err(failed(errno)),
        };
        Ok(Self { file: File::from(file), directory, path: path.to_owned(), temporary })
    }

    /// Gives it its name once all of it is on the disk. Its length in bytes. What is overwritten is a regular file or a link.
    pub fn publish(mut self, overwrite: bool) -> Result<u64, Error> {
        let path = self.path.clone();
        let failed = |error: io::Error| Error::file("write", &path, error);
        self.file.sync_all().map_err(failed)?;
        let length = self.file.metadata().map_err(failed)?.len();
        let name = path.file_name().ok_or_else(|| Error::FilePath(path.display().to_string()))?;
        let linked = match (&self.temporary, overwrite) {
            (None, false) => self.link(Path::new(name)),
            (Some(temporary), false) => {
                fs::linkat(&self.directory, temporary, &self.directory, name, AtFlags::empty())
            }
            (_, true) => {
                match std::fs::symlink_metadata(&path) {
                    Ok(there) if !there.is_file() && !there.is_symlink() => {
                        return Err(Error::NotRegularFile(path.display().to_string()));
                    }
                    _ => {}
                }
                let temporary = match &self.temporary {
                    Some(temporary) => temporary.clone(),
                    None => {
                        let temporary = temporary_name(&path);
                        self.link(&temporary).map_err(|errno| failed(errno.into()))?;
                        temporary
                    }
                };
                self.temporary = Some(temporary.clone());
                let renamed = fs::renameat(&self.directory, &temporary, &self.directory, name);
                if renamed.is_ok() {
                    self.temporary = None;
                }
                renamed
            }
        };
        linked.map_err(|errno| match errno {
            Errno::EXIST => Error::FileExists(path.display().to_string()),
            errno => failed(errno.into()),
        })?;
        self.directory.sync_all().map_err(failed)?;
        Ok(length)
    }

    /// A file without a name gets one through its descriptor: open(2), `O_TMPFILE`.
    fn link(&self, name: &Path) -> Result<(), Errno> {
        let descriptor = format!("/proc/self/fd/{}", self.file.as_fd().as_raw_fd());
        fs::linkat(CWD, descriptor.as_str(), &self.directory, name, AtFlags::SYMLINK_FOLLOW)
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // There is nobody to tell.
            let _ = fs::unlinkat(&self.directory, temporary, AtFlags::empty());
        }
    }
}

fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let short: String = name.chars().take(100).collect();
    PathBuf::from(format!(".{short}.{}.tmp", std::process::id()))
}
