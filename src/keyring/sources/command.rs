//! Master keys from a command (such as a Vault or cloud client), like PostgreSQL's `ssl_passphrase_command`.

use super::{MAX_SOURCE_LEN, buffer, read_limited};
use crate::error::Error;
use crate::settings;
use pgrx::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::{CStr, OsStr};
use std::io::{self, ErrorKind};
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI32};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// How often a waiting session checks for a cancel: every 20 ms.
const INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Why a command's output could not be read, or its end not be waited for.
enum Failure {
    Io(io::Error),
    Timeout(Duration),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// When to give up on the command; `None` is never.
struct Deadline(Option<(Instant, Duration)>);

impl Deadline {
    fn of(limit: Option<Duration>) -> Self {
        Self(limit.and_then(|limit| Some((Instant::now().checked_add(limit)?, limit))))
    }

    fn check(&self) -> Result<(), Failure> {
        match self.0 {
            Some((end, limit)) if Instant::now() >= end => Err(Failure::Timeout(limit)),
            _ => Ok(()),
        }
    }
}

/// Runs the command with `/bin/sh` and returns what it prints. `prism_crypt.master_key_timeout`, `statement_timeout`
/// and a cancel end it, with everything that it started in its process group.
pub fn output(command: &CStr) -> Result<Zeroizing<Vec<u8>>, Error> {
    let fail = |detail: String| Error::KeyCommand { detail };
    let failed = |what: &str, failure| match failure {
        Failure::Io(error) => fail(format!("{what}: {error}.")),
        Failure::Timeout(limit) => Error::KeyCommandTimeout { limit },
    };
    let deadline = Deadline::of(settings::master_key_timeout());
    keep_open_files_to_ourselves()
        .map_err(|error| fail(format!("Open files could not be listed: {error}.")))?;
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(OsStr::from_bytes(command.to_bytes()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .map(Group::new)
        .map_err(|error| fail(format!("It could not be started: {error}.")))?;
    let mut printed = buffer();
    if let Some(stdout) = child.child.stdout.take() {
        read_all(stdout, &mut printed, &deadline)
            .map_err(|failure| failed("Its output could not be read", failure))?;
    }
    if printed.len() > MAX_SOURCE_LEN {
        return Err(fail(format!("It printed more than {MAX_SOURCE_LEN} bytes.")));
    }
    let status = child.wait(&deadline).map_err(|failure| failed("It could not be waited for", failure))?;
    if !status.success() {
        return Err(fail(format!("It ended with {status}.")));
    }
    Ok(printed)
}

/// Marks every open file as close-on-exec. PostgreSQL does so itself only since version 16, and the client's connection
/// and the files of tables are no business of a key client.
fn keep_open_files_to_ourselves() -> io::Result<()> {
    for entry in std::fs::read_dir("/dev/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        if let Some(number) = number.filter(|number| *number > 2) {
            // SAFETY: borrowed only for the next call, which fails if the file has been closed meanwhile.
            let file = unsafe { BorrowedFd::borrow_raw(number) };
            let _ = fcntl_setfd(file, FdFlags::CLOEXEC);
        }
    }
    Ok(())
}

fn read_all(mut stdout: ChildStdout, printed: &mut Vec<u8>, deadline: &Deadline) -> Result<(), Failure> {
    rustix::io::ioctl_fionbio(&stdout, true).map_err(io::Error::from)?;
    while printed.len() <= MAX_SOURCE_LEN {
        check_for_interrupts!();
        deadline.check()?;
        match read_limited(&mut stdout, printed) {
            // The end of the output.
            Ok(_) => return Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
        match poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&INTERVAL)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
    Ok(())
}

/// A child and its process group. Killed when dropped before the child has ended, as when a cancelled statement
/// unwinds, and when the session ends.
struct Group {
    child: Child,
    done: bool,
}

impl Group {
    fn new(child: Child) -> Self {
        // The child's id is also that of its group.
        RUNNING.store(child.id().cast_signed(), Relaxed);
        if !LISTENING.swap(true, Relaxed) {
            // SAFETY: registered once a backend, and the callback lives as long as the library.
            unsafe { pg_sys::on_proc_exit(Some(session_ends), pg_sys::Datum::null()) }
        }
        Self { child, done: false }
    }

    /// Waits until it ends, or for a cancel: it may close its output and go on.
    fn wait(&mut self, deadline: &Deadline) -> Result<ExitStatus, Failure> {
        loop {
            check_for_interrupts!();
            deadline.check()?;
            if let Some(status) = self.child.try_wait()? {
                self.done = true;
                return Ok(status);
            }
            // Interrupted or not, the loop checks again.
            let _ = poll(&mut [], Some(&INTERVAL));
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.done {
            // Before waiting for the child: until then nothing else can get its id. This also ends what it started in
            // the background.
            end_running();
            let _ = self.child.wait();
        }
        RUNNING.store(0, Relaxed);
    }
}

static LISTENING: AtomicBool = AtomicBool::new(false);
/// Process group of the command that this session is waiting for; 0 is none.
static RUNNING: AtomicI32 = AtomicI32::new(0);

fn end_running() {
    if let Some(group) = Pid::from_raw(RUNNING.load(Relaxed)) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// A terminated session exits without unwinding. Not guarded: nothing in it can panic.
unsafe extern "C-unwind" fn session_ends(_code: i32, _argument: pg_sys::Datum) {
    end_running();
}
