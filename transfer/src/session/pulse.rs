//! When a session is dead, and when it must show that it lives.

use std::time::Duration;

use tokio::time::Instant;

use super::error::SessionErrorKind;

/// The clock of one session's silence.
#[derive(Debug)]
pub(super) struct Pulse {
    /// How long nothing may move, if that is limited.
    limit: Option<Duration>,
    /// When the daemon must have let us in, until it has.
    welcome_by: Option<(Instant, Duration)>,
    /// When the daemon, which gave up, must have closed the connection.
    leave_by: Option<Instant>,
    /// When data last moved in either direction.
    moved: Instant,
    /// When anything was last written.
    wrote: Instant,
}

/// What is due.
#[derive(Debug)]
pub(super) enum Due {
    Nothing,
    /// Nothing was written for half of the limit.
    KeepAlive,
    /// The daemon gave up and had its time to close the connection.
    Left,
    Dead(SessionErrorKind),
}

impl Pulse {
    pub(super) fn new(limit: Option<Duration>, welcome: Option<Duration>, started: Instant) -> Pulse {
        let now = Instant::now();
        let welcome_by = welcome.map(|welcome| (started + welcome, welcome));
        Pulse { limit, welcome_by, leave_by: None, moved: now, wrote: now }
    }

    /// Bytes arrived, or none were due: it is us whom the session waits for.
    pub(super) fn read(&mut self) {
        self.moved = Instant::now();
    }

    /// Bytes went out; `data` tells whether they were more than signs of life.
    pub(super) fn wrote(&mut self, data: bool) {
        self.wrote = Instant::now();
        if data {
            self.moved = self.wrote;
        }
    }

    /// The daemon has let us in.
    pub(super) fn welcomed(&mut self) {
        self.welcome_by = None;
    }

    /// The daemon gave up; it has this long to close the connection.
    pub(super) fn leave(&mut self, patience: Duration) {
        self.leave_by.get_or_insert_with(|| Instant::now() + patience);
    }

    /// The daemon gives up after this long; so do we, unless our own limit is shorter.
    pub(super) fn adopt(&mut self, limit: Duration) {
        if !limit.is_zero() {
            self.limit = Some(self.limit.map_or(limit, |own| own.min(limit)));
        }
    }

    /// When to ask again what is due; `None` if nothing ever is.
    pub(super) fn next(&self) -> Option<Instant> {
        let silence = self.limit.map(|limit| (self.moved + limit).min(self.wrote + half(limit)));
        let welcome = self.welcome_by.map(|(at, _)| at);
        silence.into_iter().chain(welcome).chain(self.leave_by).min()
    }

    pub(super) fn due(&self, now: Instant) -> Due {
        if self.leave_by.is_some_and(|at| now >= at) {
            return Due::Left;
        }
        match (self.welcome_by, self.limit) {
            (Some((at, limit)), _) if now >= at => {
                Due::Dead(SessionErrorKind::ConnectTimeout(limit.as_secs()))
            }
            (_, Some(limit)) if now >= self.moved + limit => {
                Due::Dead(SessionErrorKind::Timeout(limit.as_secs()))
            }
            (_, Some(limit)) if now >= self.wrote + half(limit) => Due::KeepAlive,
            _ => Due::Nothing,
        }
    }
}

/// Half of the limit, in whole seconds, rounded up.
fn half(limit: Duration) -> Duration {
    Duration::from_secs(limit.as_secs().div_ceil(2).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulse(limit: Option<u64>, welcome: Option<u64>) -> (Pulse, Instant) {
        let pulse =
            Pulse::new(limit.map(Duration::from_secs), welcome.map(Duration::from_secs), Instant::now());
        let moved = pulse.moved;
        (pulse, moved)
    }

    #[tokio::test]
    async fn without_limits_nothing_is_ever_due() {
        let (pulse, start) = pulse(None, None);
        assert!(pulse.next().is_none());
        assert!(matches!(pulse.due(start + Duration::from_secs(1_000_000)), Due::Nothing));
    }

    #[tokio::test]
    async fn a_sign_of_life_is_due_after_half_of_the_limit_and_death_after_all_of_it() {
        let (pulse, start) = pulse(Some(7), None);
        assert_eq!(pulse.next(), Some(start + Duration::from_secs(4)));
        assert!(matches!(pulse.due(start + Duration::from_secs(4)), Due::KeepAlive));
        assert!(matches!(pulse.due(start + Duration::from_secs(7)), Due::Dead(SessionErrorKind::Timeout(7))));
    }

    #[tokio::test]
    async fn a_daemon_that_does_not_welcome_us_in_time_is_a_connect_timeout() {
        let (mut pulse, start) = pulse(Some(100), Some(3));
        let late = start + Duration::from_secs(3);
        assert!(matches!(pulse.due(late), Due::Dead(SessionErrorKind::ConnectTimeout(3))));
        pulse.welcomed();
        assert!(matches!(pulse.due(late), Due::Nothing));
    }

    #[tokio::test]
    async fn a_daemon_that_gave_up_has_a_while_to_close() {
        let (mut pulse, start) = pulse(Some(100), None);
        pulse.leave(Duration::from_secs(1));
        assert!(matches!(pulse.due(start + Duration::from_secs(2)), Due::Left));
    }

    #[tokio::test]
    async fn the_shorter_of_both_sides_limits_counts() {
        let (mut pulse, start) = pulse(None, None);
        pulse.adopt(Duration::from_secs(60));
        pulse.adopt(Duration::from_secs(600));
        pulse.adopt(Duration::ZERO);
        assert_eq!(pulse.next(), Some(start + Duration::from_secs(30)));
    }
}
