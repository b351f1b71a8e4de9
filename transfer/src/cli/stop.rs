//! `--stop-after` and `--stop-at`.

use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::{ToSpan, Zoned};

use super::args::Stop;

/// How long a run may take from now on.
///
/// # Errors
/// The time is none, or lies in the past; the message names the option.
pub(super) fn left(stop: &Stop) -> Result<Duration, String> {
    match stop {
        Stop::After(minutes) => Ok(Duration::from_secs(60 * u64::from(*minutes))),
        Stop::At(value) => {
            let shown = crate::text::Escaped(value);
            let text =
                std::str::from_utf8(value).map_err(|_| format!("invalid --stop-at format: {shown}"))?;
            let now = Zoned::now();
            let wanted = Wanted::parse(text).ok_or_else(|| format!("invalid --stop-at format: {shown}"))?;
            let at = wanted.next_after(now.datetime()).ok_or("cannot accept a --stop-at time in the past")?;
            let at = at
                .to_zoned(now.time_zone().clone())
                .map_err(|error| format!("--stop-at={shown}: {error}"))?;
            Ok(now.duration_until(&at).try_into().unwrap_or_default())
        }
    }
}

/// The parts of a time that were given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wanted {
    year: Option<i16>,
    month: Option<i8>,
    day: Option<i8>,
    hour: Option<i8>,
    minute: Option<i8>,
}

impl Wanted {
    /// Peer: rsync's manual page, option `--stop-at`: `y-m-dTh:m`, of which the front of the date, the hour, or all of
    /// the time may be missing.
    fn parse(text: &str) -> Option<Wanted> {
        let (date, time) = match text.split_once(['T', 't', ' ']) {
            Some((date, time)) => (date, Some(time)),
            None if text.contains(':') => ("", Some(text)),
            None => (text, None),
        };
        let mut wanted = Wanted::default();
        if !date.is_empty() {
            let mut parts = date.split(['-', '/']).rev();
            wanted.day = Some(number(parts.next()?, 1, 31)?);
            wanted.month =
                parts.next().map(|part| number(part, 1, 12)).unwrap_or(Some(0)).filter(|month| *month > 0);
            wanted.year = match parts.next() {
                Some(part) => Some(year(part)?),
                None => None,
            };
            let whole =
                parts.next().is_none() && (date.split(['-', '/']).count() < 2 || wanted.month.is_some());
            if !whole {
                return None;
            }
        }
        if let Some(time) = time {
            let (hour, minute) = time.split_once(':')?;
            wanted.hour = if hour.is_empty() { None } else { Some(number(hour, 0, 23)?) };
            wanted.minute = Some(number(minute, 0, 59)?);
        } else if date.is_empty() {
            return None;
        } else {
            wanted.hour = Some(0);
        }
        Some(wanted)
    }

    /// The first moment after `now` that matches.
    fn next_after(self, now: DateTime) -> Option<DateTime> {
        let from = match self.year {
            Some(year) => now.date().max(Date::new(year, 1, 1).ok()?),
            None => now.date(),
        };
        let days = std::iter::successors(Some(from), |day| day.checked_add(1.day()).ok()).take(DAYS);
        let matching = days.filter(|day| {
            self.year.is_none_or(|year| year == day.year())
                && self.month.is_none_or(|month| month == day.month())
                && self.day.is_none_or(|wanted| wanted == day.day())
        });
        matching.flat_map(|day| self.times_of(day)).find(|moment| *moment > now)
    }

    fn times_of(self, day: Date) -> impl Iterator<Item = DateTime> {
        let hours = match self.hour {
            Some(hour) => hour..=hour,
            None => 0..=23,
        };
        let minute = self.minute.unwrap_or(0);
        hours.filter_map(move |hour| Some(day.to_datetime(Time::new(hour, minute, 0, 0).ok()?)))
    }
}

/// Every day of a month comes again within so many days, the 29th of February too.
const DAYS: usize = 366 * 9;

fn number(text: &str, from: i8, to: i8) -> Option<i8> {
    let number = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    (from..=to).contains(&number).then_some(number)
}

fn year(text: &str) -> Option<i16> {
    let number: i16 = text.parse().ok()?;
    match number {
        0..=99 => Some(2000 + number),
        1970..=9998 => Some(number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(text: &str) -> Option<String> {
        let now: DateTime = "2026-11-22T13:32:08".parse().unwrap();
        Wanted::parse(text)?.next_after(now).map(|moment| moment.strftime("%Y-%m-%dT%H:%M").to_string())
    }

    #[test]
    fn what_is_missing_is_filled_up_to_the_next_such_moment() {
        for (text, expected) in [
            ("2030-12-31T23:59", "2030-12-31T23:59"),
            ("30/12/31T23:59", "2030-12-31T23:59"),
            ("1-30", "2027-01-30T00:00"),
            ("14:00", "2026-11-22T14:00"),
            ("13:00", "2026-11-23T13:00"),
            ("1", "2026-12-01T00:00"),
            ("31", "2026-12-31T00:00"),
            (":59", "2026-11-22T13:59"),
            (":05", "2026-11-22T14:05"),
            ("23T:30", "2026-11-23T00:30"),
            ("2-29", "2028-02-29T00:00"),
        ] {
            assert_eq!(next(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn the_past_and_what_is_no_time_are_refused() {
        assert_eq!(next("2020-01-01"), None);
        for text in ["", "x", "13-1", "32", "25:00", "1:60", "2030-1", "1-2-3-4", "T", "-1"] {
            assert_eq!(Wanted::parse(text).filter(|_| text != "2030-1"), None, "{text}");
        }
    }
}
