//! Numbers as people read them.

use std::time::Duration;

/// A duration with three digits and a unit.
pub(crate) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.001 {
        format!("{:.0} us", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{} ms", three_digits(seconds * 1e3))
    } else {
        format!("{} s", three_digits(seconds))
    }
}

/// A number of bytes with three digits and a unit of powers of 1000.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{} {}", three_digits(value), units[unit]) }
}

/// How many times `ours` goes into `theirs`; a dash where nothing can be said.
pub(crate) fn ratio(theirs: f64, ours: f64) -> String {
    if ours <= 0.0 || theirs <= 0.0 {
        return "-".to_owned();
    }
    format!("{}x", three_digits(theirs / ours))
}

/// A whole number with thousands set apart.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number with three digits.
pub(crate) fn three_digits(value: f64) -> String {
    match value {
        v if v >= 99.95 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// Rows of cells under a heading.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    words: usize,
}

impl Table {
    /// A table with this heading. The first `words` columns hold words, set to the left; the others numbers.
    pub(crate) fn new(words: usize, heading: &[&str]) -> Self {
        Self { rows: vec![heading.iter().map(|&cell| cell.to_owned()).collect()], words }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table as text, a line under the heading.
    pub(crate) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut out = String::new();
        for (at, row) in self.rows.iter().enumerate() {
            out.push_str(&line(row, &widths, self.words));
            if at == 0 {
                out.push_str(&format!(
                    "{}\n",
                    " ".to_owned()
                        + &"-".repeat(widths.iter().sum::<usize>() + 2 * columns.saturating_sub(1))
                ));
            }
        }
        out
    }
}

fn line(row: &[String], widths: &[usize], words: usize) -> String {
    let mut out = String::new();
    for (column, cell) in row.iter().enumerate() {
        let width = widths[column];
        let gap = if column == 0 { " " } else { "  " };
        out.push_str(gap);
        out.push_str(&if column < words { format!("{cell:<width$}") } else { format!("{cell:>width$}") });
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        assert_eq!(time(Duration::from_micros(8120)), "8.12 ms");
        assert_eq!(time(Duration::from_millis(1310)), "1.31 s");
        assert_eq!(bytes(412), "412 B");
        assert_eq!(bytes(999_600), "1.00 MB");
        assert_eq!(ratio(1310.0, 8.12), "161x");
        assert_eq!(count(1_000_000), "1,000,000");
    }
}
