//! What the demo prints: one table, 100 columns at most.

use std::time::Duration;

use super::tree::Summary;
use crate::world::table::{bytes, count, ratio, time};

/// What one way of mirroring needed.
pub(crate) struct Cost {
    /// From the change until it stood at the destination.
    pub(crate) time: Duration,
    /// Bytes sent to the destination.
    pub(crate) bytes: u64,
}

/// One line of the table.
pub(crate) struct Row {
    /// The change, in words.
    pub(crate) what: String,
    /// What ebbtide needed.
    pub(crate) ours: Cost,
    /// What the script needed; nothing if it did not bring the change over.
    pub(crate) script: Option<Cost>,
}

/// Says what is compared, and the heading of the table.
pub(crate) fn opening(tree: &Summary) {
    println!();
    println!(
        "  source       {} files in {} folders, {}, on ext4",
        count(tree.files),
        count(tree.folders),
        bytes(tree.bytes)
    );
    println!("               {}", tree.origin);
    println!(
        "  destination  stock {} on loopback",
        crate::world::process::first_line("rsync", &["--version"])
    );
    println!("  ebbtide      from the change until it was seen in the destination's folder");
    println!("  the script   rsync -vzrtopg --delete of the tree, which it runs at every event");
    println!();
    println!(
        "  {:<40}{:>19}   {:>19}   {:>13}",
        "", "---- ebbtide -----", "--- the script ----", "script/ebbtide"
    );
    println!(
        "  {:<40}{:>9} {:>9}   {:>9} {:>9}   {:>6} {:>6}",
        "", "time", "sent", "time", "sent", "time", "sent"
    );
}

/// Prints one line of the table.
pub(crate) fn print(row: &Row) {
    let (took, sent) = (time(row.ours.time), bytes(row.ours.bytes));
    let (theirs, times) = match &row.script {
        None => (format!("{:>19}", "not brought over"), format!("{:>6} {:>6}", "-", "-")),
        Some(script) => (
            format!("{:>9} {:>9}", time(script.time), bytes(script.bytes)),
            format!(
                "{:>6} {:>6}",
                ratio(script.time.as_secs_f64(), row.ours.time.as_secs_f64()),
                ratio(script.bytes as f64, row.ours.bytes as f64)
            ),
        ),
    };
    println!("  {:<40}{took:>9} {sent:>9}   {theirs}   {times}", row.what);
}

/// Prints the middle of all changes that both brought over.
pub(crate) fn middle(rows: &[Row]) {
    let both = rows.iter().filter_map(|row| Some((&row.ours, row.script.as_ref()?)));
    let (ours, scripts): (Vec<&Cost>, Vec<&Cost>) = both.unzip();
    let script = Some(median(&scripts));
    println!("  {}", "-".repeat(98));
    print(&Row { what: "median of these changes".to_owned(), ours: median(&ours), script });
}

fn median(costs: &[&Cost]) -> Cost {
    let mut times: Vec<Duration> = costs.iter().map(|cost| cost.time).collect();
    let mut sizes: Vec<u64> = costs.iter().map(|cost| cost.bytes).collect();
    times.sort();
    sizes.sort_unstable();
    let middle = costs.len() / 2;
    Cost {
        time: times.get(middle).copied().unwrap_or_default(),
        bytes: sizes.get(middle).copied().unwrap_or_default(),
    }
}

/// Prints what the table alone does not tell.
pub(crate) fn notes(notes: &[String]) {
    println!();
    for note in notes {
        println!("  {note}");
    }
}

/// Prints the referee's word.
pub(crate) fn verdict(entries: &str) {
    println!(
        "  rsync -naHAXc --delete --itemize-changes, source against ebbtide's destination, printed nothing:"
    );
    println!("  both sides are equal in all {} entries.", entries.trim());
}
