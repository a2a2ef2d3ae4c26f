//! A file, or standard input where its name is `-`, with a progress bar while it is read.

use crate::error::{Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek};
use std::path::{Path, PathBuf};

/// How the bar looks; without a length there is only a count.
const WITH_LENGTH: &str = "{msg} [{bar:40}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
const WITHOUT_LENGTH: &str = "{msg} {bytes}, {bytes_per_sec}";

/// Something to read.
pub struct Input {
    path: PathBuf,
    /// `None` is standard input.
    file: Option<File>,
}

impl Input {
    /// Opens it.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn open(path: &Path) -> Result<Self> {
        let file = match path.as_os_str() == "-" {
            true => None,
            false => Some(File::open(path).map_err(|error| Error::file("open", path, error))?),
        };
        Ok(Self { path: path.to_owned(), file })
    }

    /// Whether it is standard input, which can't be the key too.
    pub fn is_standard(&self) -> bool {
        self.file.is_none()
    }

    /// Whether it can be read again: it is a regular file.
    pub fn is_regular(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.metadata().is_ok_and(|metadata| metadata.is_file()))
    }

    /// Reads it from its beginning (or what is left, if it is none that has one), and shows what it does with a bar, if somebody looks.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn read(&self, doing: &'static str) -> Result<Box<dyn Read + Send>> {
        let Some(file) = &self.file else {
            return Ok(Box::new(bar(None, doing).wrap_read(io::stdin())));
        };
        let failed = |error| Error::file("read", &self.path, error);
        let mut file = file.try_clone().map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let length = metadata.is_file().then_some(metadata.len());
        if length.is_some() {
            file.rewind().map_err(failed)?;
        }
        Ok(Box::new(bar(length, doing).wrap_read(file)))
    }
}

/// Nothing is drawn unless standard error is a terminal; where standard output is one too, it belongs to what is written there.
fn bar(length: Option<u64>, doing: &'static str) -> ProgressBar {
    if io::stdout().is_terminal() && doing == WRITING {
        return ProgressBar::hidden();
    }
    let target = ProgressDrawTarget::stderr();
    let bar = ProgressBar::with_draw_target(length, target).with_finish(ProgressFinish::AndClear);
    let template = if length.is_some() { WITH_LENGTH } else { WITHOUT_LENGTH };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    let bar = bar.with_message(doing);
    // It is seen also if all is done before it would be drawn.
    bar.tick();
    bar
}

/// What is done where the result goes to standard output meanwhile.
pub const WRITING: &str = "writing";
