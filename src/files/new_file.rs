//! A file that appears as a whole, or not at all. The command-line tool compiles this, too, with its own errors.

use crate::error::Error;
use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Being written. It has no name until [`publish`](Self::publish), so that nothing is left of it, whatever ends the process.
pub struct NewFile {
    file: File,
    directory: File,
    path: PathBuf,
    overwrite: bool,
    /// Where the file system knows no files without a name.
    temporary: Option<PathBuf>,
}

impl NewFile {
    /// In the directory of that path. Mode 0600. What may be overwritten is a regular file, or a link itself.
    ///
    /// # Errors
    /// [`Error::FilePath`], [`Error::FileExists`], [`Error::File`].
    pub fn create(path: &Path, overwrite: bool) -> Result<Self, Error> {
        if !overwrite && std::fs::symlink_metadata(path).is_ok() {
            return Err(Error::FileExists(path.display().to_string()));
        }
        let failed = |errno: Errno| Error::file("create", path, errno.into());
        let is_file = path.file_name().is_some() && !path.as_os_str().as_bytes().ends_with(b"/");
        let parent = path.parent().filter(|_| is_file);
        let parent = parent.ok_or_else(|| Error::FilePath(path.display().to_string()))?;
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = File::from(fs::open(parent, flags, Mode::empty()).map_err(failed)?);
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let (file, temporary) = match fs::openat(&directory, ".", flags | OFlags::TMPFILE, mode) {
            Ok(file) => (file, None),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
                let temporary = temporary_name(&directory);
                let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                (fs::openat(&directory, &temporary, flags, mode).map_err(failed)?, Some(temporary))
            }
            Err(errno) => return Err(failed(errno)),
        };
        Ok(Self { file: File::from(file), directory, path: path.to_owned(), overwrite, temporary })
    }

    /// Gives it its name once all of it is on the disk. Its length in bytes.
    ///
    /// # Errors
    /// [`Error::FileExists`] if somebody else has made one meanwhile, [`Error::NotRegularFile`], [`Error::File`].
    pub fn publish(mut self) -> Result<u64, Error> {
        let path = self.path.clone();
        let failed = |error: io::Error| Error::file("write", &path, error);
        self.file.sync_all().map_err(failed)?;
        let length = self.file.metadata().map_err(failed)?.len();
        let name = path.file_name().ok_or_else(|| Error::FilePath(path.display().to_string()))?;
        let linked = match (&self.temporary, self.overwrite) {
            (None, false) => self.link(Path::new(name)),
            (Some(temporary), false) => {
                let renamed = rename_to_new(&self.directory, temporary, Path::new(name));
                if renamed.is_ok() {
                    self.temporary = None;
                }
                renamed
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
                        let temporary = temporary_name(&self.directory);
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

/// Not every file system can rename without replacing, and not every one has links. Where there is neither, an empty file of its
/// own is replaced.
fn rename_to_new(directory: &File, temporary: &Path, name: &Path) -> Result<(), Errno> {
    match fs::renameat_with(directory, temporary, directory, name, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        result => return result,
    }
    match fs::linkat(directory, temporary, directory, name, AtFlags::empty()) {
        Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        result => return result.and_then(|()| fs::unlinkat(directory, temporary, AtFlags::empty())),
    }
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?;
    fs::renameat(directory, temporary, directory, name).inspect_err(|_| {
        // There is nobody to tell.
        let _ = fs::unlinkat(directory, name, AtFlags::empty());
    })
}

/// Of no other file. One of an earlier process with this number may have been left by a crash.
fn temporary_name(directory: &File) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = PathBuf::from(format!(".prism_crypt.{}.{number}.tmp", std::process::id()));
        if fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW).is_err() {
            return name;
        }
    }
}
