//! Waiting for several descriptors and for time.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};

use super::{Named, Result};

/// A set of descriptors to wait for, each with a token of the caller's.
#[derive(Debug)]
pub struct Poller(OwnedFd);

impl Poller {
    /// An empty set.
    ///
    /// # Errors
    /// As `epoll_create1(2)`.
    pub fn new() -> Result<Self> {
        Ok(Poller(epoll::create(epoll::CreateFlags::CLOEXEC).named("epoll_create1")?))
    }

    /// Waits for this descriptor to be readable, too.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64) -> Result<()> {
        let data = epoll::EventData::new_u64(token);
        epoll::add(&self.0, fd, data, epoll::EventFlags::IN).named("epoll_ctl")
    }

    /// Waits for a change of a file in `/proc` such as the mount table.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn add_priority(&self, fd: BorrowedFd<'_>, token: u64) -> Result<()> {
        let data = epoll::EventData::new_u64(token);
        epoll::add(&self.0, fd, data, epoll::EventFlags::PRI | epoll::EventFlags::ET).named("epoll_ctl")
    }

    /// Waits, from now on, for writability as well or not.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn want_write(&self, fd: BorrowedFd<'_>, token: u64, wanted: bool) -> Result<()> {
        let data = epoll::EventData::new_u64(token);
        let mut flags = epoll::EventFlags::IN;
        flags.set(epoll::EventFlags::OUT, wanted);
        epoll::modify(&self.0, fd, data, flags).named("epoll_ctl")
    }

    /// Waits for this descriptor no longer.
    pub fn remove(&self, fd: BorrowedFd<'_>) {
        // Fails only for what was never added; then there is nothing to remove.
        let _ = epoll::delete(&self.0, fd);
    }

    /// The tokens of what is ready, after waiting at most `timeout` (`None` for ever). Being interrupted gives none.
    ///
    /// # Errors
    /// As `epoll_wait(2)`.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Vec<u64>> {
        let mut events = Vec::with_capacity(64);
        let timeout = timeout.map(timespec);
        match epoll::wait(&self.0, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) => Ok(events.iter().map(|event| event.data.u64()).collect()),
            Err(rustix::io::Errno::INTR) => Ok(Vec::new()),
            Err(e) => Err(e).named("epoll_wait"),
        }
    }
}

impl AsFd for Poller {
    /// Itself readable while anything in it is ready.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A timer that becomes readable when it fires.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// A timer that is not set.
    ///
    /// # Errors
    /// As `timerfd_create(2)`.
    pub fn new() -> Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Timer(rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags).named("timerfd_create")?))
    }

    /// Fires once, this long from now; a zero duration fires at once.
    ///
    /// # Errors
    /// As `timerfd_settime(2)`.
    pub fn set(&self, after: Duration) -> Result<()> {
        let zero = timespec(Duration::ZERO);
        // A value of zero would disarm.
        let value = timespec(after.max(Duration::from_nanos(1)));
        let spec = Itimerspec { it_interval: zero, it_value: value };
        rustix::time::timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &spec).named("timerfd_settime")?;
        Ok(())
    }

    /// Takes note that it fired.
    pub fn clear(&self) {
        let mut count = [0; 8];
        // The read fails only when it had not fired, which is all the same here.
        let _ = rustix::io::read(&self.0, &mut count);
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_wakes_the_poller_with_its_token_once() {
        let (poller, timer) = (Poller::new().unwrap(), Timer::new().unwrap());
        poller.add(timer.as_fd(), 7).unwrap();
        timer.set(Duration::ZERO).unwrap();
        assert_eq!(poller.wait(None).unwrap(), [7]);
        timer.clear();
        assert!(poller.wait(Some(Duration::ZERO)).unwrap().is_empty());
    }
}
