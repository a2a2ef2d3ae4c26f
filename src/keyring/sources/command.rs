//! Master keys from a command (a Vault or cloud client, say), as `ssl_passphrase_command` does it.

use super::{MAX_SOURCE_LEN, buffer, read_limited};
use crate::error::Error;
use pgrx::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::{CStr, OsStr};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use zeroize::Zeroizing;

/// How often a waiting session looks whether it was cancelled, in nanoseconds.
const INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Runs the command with the server's shell and gives what it prints. `statement_timeout` and a cancel end it, with
/// everything that it started in its process group.
pub fn output(command: &CStr) -> Result<Zeroizing<Vec<u8>>, Error> {
    let fail = |detail: String| Error::KeyCommand { detail };
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(OsStr::from_bytes(command.to_bytes()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .map(Group)
        .map_err(|error| fail(format!("It could not be started: {error}.")))?;
    let mut printed = buffer();
    if let Some(stdout) = child.0.stdout.take() {
        read_all(stdout, &mut printed)
            .map_err(|error| fail(format!("Its output could not be read: {error}.")))?;
    }
    if printed.len() > MAX_SOURCE_LEN {
        return Err(fail(format!("It printed more than {MAX_SOURCE_LEN} bytes.")));
    }
    let status = child.wait().map_err(|error| fail(format!("It could not be waited for: {error}.")))?;
    if !status.success() {
        return Err(fail(format!("It ended with {status}.")));
    }
    Ok(printed)
}

fn read_all(mut stdout: ChildStdout, printed: &mut Vec<u8>) -> io::Result<()> {
    rustix::io::ioctl_fionbio(&stdout, true)?;
    while printed.len() <= MAX_SOURCE_LEN {
        check_for_interrupts!();
        match read_limited(&mut stdout, printed) {
            // The end of the output.
            Ok(_) => return Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        match poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&INTERVAL)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A child and its process group, ended when dropped: also when a cancelled statement unwinds.
struct Group(Child);

impl Group {
    /// Waits until it ends, and stays open to a cancel: it may close its output and go on.
    fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            check_for_interrupts!();
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            // Interrupted or not, the loop looks again.
            let _ = poll(&mut [], Some(&INTERVAL));
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.0.try_wait() {
            return;
        }
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}
