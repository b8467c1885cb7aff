//! Ends the process where the interpreter is stuck and cannot do it.

use std::time::Duration;

use pyo3::prelude::*;

use crate::errors::input_error;

/// End the process if it does not come to an end by itself in time.
///
/// The numbers of the signals that arrive are read from the file descriptor `pipe`, where
/// `signal.set_wakeup_fd` writes them.  `seconds` after the first SIGTERM the process ends with
/// status 143.  At the third SIGINT it ends with status 130; one that comes less than `seconds`
/// after the last is not counted.  Before the end, `last_words` are written to standard error.
/// All numbers are written to the file descriptor `next` as well, unless that is -1.  The number
/// 0 ends the watch, and the pipe is closed.
///
/// A thread that does not need the interpreter does all this.
#[pyfunction]
pub(crate) fn end_in_time(pipe: i32, next: i32, seconds: f64, last_words: Vec<u8>) -> PyResult<()> {
    let patience =
        Duration::try_from_secs_f64(seconds).map_err(|error| input_error(error.to_string()))?;
    #[cfg(unix)]
    std::thread::Builder::new()
        .name("dipfast-ending".into())
        .spawn(move || unix::watch(pipe, next, patience, &last_words))?;
    #[cfg(not(unix))]
    let _ = (pipe, next, patience, last_words);
    Ok(())
}

#[cfg(unix)]
mod unix {
    use std::ffi::c_int;
    use std::io::{Error, ErrorKind};
    use std::time::{Duration, Instant};

    /// The number of Ctrl-C that end the process: the first asks the fit to stop, the second
    /// raises an exception as soon as Python can, and the third ends the process.
    const LAST_INTERRUPT: u32 = 3;

    /// Reads the numbers of signals until one says that the process has to end, or 0 comes.
    pub(super) fn watch(pipe: c_int, next: c_int, patience: Duration, last_words: &[u8]) {
        block_signals();
        let mut deadline = None;
        let mut interrupts = 0;
        let mut interrupted = None;
        loop {
            let left = deadline.map(|end: Instant| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                end(libc::SIGTERM, last_words);
            }
            match read(pipe, left) {
                Ok(None) => continue,
                Ok(Some(0)) | Err(_) => break,
                Ok(Some(number)) => {
                    let now = Instant::now();
                    match c_int::from(number) {
                        libc::SIGTERM => deadline = deadline.or(Some(now + patience)),
                        // A key that is held down sends many, which count as one.
                        libc::SIGINT if interrupted.is_none_or(|last| now >= last + patience) => {
                            interrupted = Some(now);
                            interrupts += 1;
                            if interrupts == LAST_INTERRUPT {
                                end(libc::SIGINT, last_words);
                            }
                        }
                        _ => (),
                    }
                    if next != -1 {
                        // SAFETY: `number` is one byte; that it may not be written is no error.
                        unsafe { libc::write(next, (&raw const number).cast(), 1) };
                    }
                }
            }
        }
        // SAFETY: the pipe was handed over to this thread, and nothing else closes it.
        unsafe { libc::close(pipe) };
    }

    /// Blocks all signals in this thread, so that other threads receive them.
    fn block_signals() {
        // SAFETY: zeros are a valid `sigset_t`; the set is filled before it is the mask.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
        }
    }

    /// Reads the next number; None if there is none within the time limit, if there is one.
    fn read(pipe: c_int, limit: Option<Duration>) -> Result<Option<u8>, Error> {
        // Rounded up, so that the limit is over when poll returns.
        let limit = limit.map_or(-1, |left| {
            c_int::try_from(left.as_millis() + 1).unwrap_or(-1)
        });
        match poll(pipe, libc::POLLIN, limit) {
            Ok(false) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(None),
            other => other?,
        };
        let mut number = 0_u8;
        // SAFETY: there is room for one byte.
        match unsafe { libc::read(pipe, (&raw mut number).cast(), 1) } {
            1 => Ok(Some(number)),
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Err(Error::last_os_error()),
        }
    }

    /// Waits until a file is ready; false if it is not within the time.
    fn poll(file: c_int, events: i16, milliseconds: c_int) -> Result<bool, Error> {
        let mut state = libc::pollfd {
            fd: file,
            events,
            revents: 0,
        };
        // SAFETY: the pointer is to one `pollfd`, and the count is 1.
        match unsafe { libc::poll(&raw mut state, 1, milliseconds) } {
            -1 => Err(Error::last_os_error()),
            count => Ok(count > 0),
        }
    }

    /// Ends the process at once, as a shell would report a death by this signal.
    fn end(signal: c_int, last_words: &[u8]) -> ! {
        const STANDARD_ERROR: c_int = 2;
        // SAFETY: the pointer and the length are those of a slice.  Nothing is written to a full
        // pipe, for which the process would have to wait.
        unsafe {
            if poll(STANDARD_ERROR, libc::POLLOUT, 0).unwrap_or(false) {
                libc::write(STANDARD_ERROR, last_words.as_ptr().cast(), last_words.len());
            }
            libc::_exit(128 + signal)
        }
    }
}
