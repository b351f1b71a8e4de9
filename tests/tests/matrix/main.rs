//! The matrix: every kind of change, on every file system, by every plan of probes. Each cell proves that the right facts
//! came out and that the destination followed; a cell that a file system cannot do says the kernel's own error.
//!
//! One daemon stands for all cells of a file system and a plan. Each change happens in a directory of its own, so that
//! facts and differences tell which cell they belong to.
//!
//! What ran is what `docs/KERNELS.md` says of this kernel: `EBBTIDE_WRITE_KERNELS=1` writes it anew.

mod column;
mod harness;
mod judge;
mod kernels;

use std::process::ExitCode;

use clap::ValueEnum;
use ebbtide::probe::ProbeChoice;
use ebbtide_tests::{Change, Kind};

use column::Column;
use harness::{Arguments, Harness};

fn main() -> ExitCode {
    let arguments = Arguments::read();
    let columns = columns();
    let names = columns.iter().flat_map(|column| Change::all().map(|change| column.cell(change)));
    let names: Vec<String> = names.chain([DOCUMENT.to_owned()]).collect();
    if arguments.list {
        arguments.list(&names);
        return ExitCode::SUCCESS;
    }
    if std::env::var_os("EBBTIDE_TEST_CLIENT").is_some() {
        println!("stock rsync has no probes: nothing to run");
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<String> = names.into_iter().filter(|name| arguments.wants(name)).collect();
    let harness = Harness::begin(wanted);
    let results = column::run_all(columns, arguments.threads, &harness);
    if harness.wants(DOCUMENT) {
        harness.tell(DOCUMENT, kernels::check(&results));
    }
    harness.end()
}

/// Every file system by every plan that the command line offers.
fn columns() -> Vec<Column> {
    let plans = ProbeChoice::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    let plans: Vec<String> = plans.map(|value| value.get_name().to_owned()).collect();
    let of = |kind| plans.iter().map(move |plan| Column { kind, plan: plan.clone() });
    Kind::ALL.into_iter().flat_map(of).collect()
}

const DOCUMENT: &str = "matrix::docs_kernels_md_says_what_ran";
