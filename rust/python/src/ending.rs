//! Ending the process where Python cannot, because it is stuck.

use std::time::Duration;

use pyo3::prelude::*;

/// End the process if it does not come to an end by itself in time.
///
/// `pipe` is where the numbers of the signals that arrive can be read, written there by
/// `signal.set_wakeup_fd`.  So many `seconds` after the first SIGTERM the process ends with
/// status 143; at the third SIGINT, each so long after the one before, with 130.  `last_words`
/// go to standard error before.  All numbers are handed on to `next`, unless that is -1.  The
/// number 0 is the end of it, and the pipe is closed.
///
/// All that is done in a thread that does not need the interpreter.
#[pyfunction]
pub(crate) fn end_in_time(pipe: i32, next: i32, seconds: f64, last_words: Vec<u8>) -> PyResult<()> {
    let patience = Duration::try_from_secs_f64(seconds)
        .map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?;
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

    /// At which one of Ctrl-C there is an end of it: the first asks for it, and the second
    /// raises an exception as soon as Python can.
    const LAST_INTERRUPT: u32 = 3;

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
                        // Not just the same one held down.
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
                        // SAFETY: one byte is there; whoever reads it decides what is lost.
                        unsafe { libc::write(next, (&raw const number).cast(), 1) };
                    }
                }
            }
        }
        // SAFETY: the pipe was handed over to this thread.
        unsafe { libc::close(pipe) };
    }

    /// Signals are for the other threads.
    fn block_signals() {
        // SAFETY: a set is filled, and becomes the mask of this thread.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
        }
    }

    /// The next number; None if there is none within the time, where there is a limit.
    fn read(pipe: c_int, limit: Option<Duration>) -> Result<Option<u8>, Error> {
        // Not a millisecond too early.
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

    fn poll(file: c_int, events: i16, milliseconds: c_int) -> Result<bool, Error> {
        let mut state = libc::pollfd {
            fd: file,
            events,
            revents: 0,
        };
        // SAFETY: there is one state.
        match unsafe { libc::poll(&raw mut state, 1, milliseconds) } {
            -1 => Err(Error::last_os_error()),
            count => Ok(count > 0),
        }
    }

    /// Ends the process at once, as a shell would report a death by this signal.
    fn end(signal: c_int, last_words: &[u8]) -> ! {
        const STANDARD_ERROR: c_int = 2;
        // SAFETY: the bytes are there.  What is full would be waited for, and is left alone.
        unsafe {
            if poll(STANDARD_ERROR, libc::POLLOUT, 0).unwrap_or(false) {
                libc::write(STANDARD_ERROR, last_words.as_ptr().cast(), last_words.len());
            }
            libc::_exit(128 + signal)
        }
    }
}
