//! `start`: how long until changes are noticed, by size of the tree.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use super::report::Run;
use super::trees::{Stage, Trees};
use super::{Bench, median, peers, turns};
use crate::world::ebbtide::Ebbtide;
use crate::world::rsyncd::Rsyncd;
use crate::world::table::{Table, count, ratio, time};

const LIMIT: Duration = Duration::from_secs(900);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tool {
    Ebbtide,
    Inotifywait,
    Lsyncd,
}

/// What is timed, from the start of the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// By ebbtide's own clock, without the time in which its programs were loaded: whole milliseconds.
    EbbtideAfterLoading,
    EbbtideTracks,
    EbbtideCompared,
    InotifywaitWatches,
    LsyncdReady,
}

const TOOLS: [Tool; 3] = [Tool::Ebbtide, Tool::Inotifywait, Tool::Lsyncd];

type Times = BTreeMap<Moment, Vec<f64>>;

/// Measures and reports.
pub(super) fn measure(bench: &Bench, trees: &mut Trees, run: &mut Run) -> Result<()> {
    run.columns(&["files", "round", "moment", "milliseconds"]);
    let mut all = BTreeMap::new();
    for &files in &bench.options.files {
        let stage = trees.stage(files)?;
        let destination = Rsyncd::start(&bench.scratch, "start", &stage.mirror())?;
        let mut times = Times::new();
        for round in 0..bench.rounds(5) {
            for tool in turns(&TOOLS, round) {
                for (moment, time) in start(bench, &stage, &destination, tool)? {
                    let milliseconds = time.as_secs_f64() * 1e3;
                    let cells = [
                        files.to_string(),
                        round.to_string(),
                        moment.word().into(),
                        format!("{milliseconds:.3}"),
                    ];
                    run.figures(&cells);
                    times.entry(moment).or_default().push(milliseconds);
                }
            }
        }
        all.insert(files, times);
    }
    report(&all, run);
    Ok(())
}

fn start(bench: &Bench, stage: &Stage, destination: &Rsyncd, tool: Tool) -> Result<Vec<(Moment, Duration)>> {
    let (source, url) = (stage.source(), destination.url());
    match tool {
        Tool::Ebbtide => {
            let mut daemon = Ebbtide::start(&bench.ebbtide, &source, &url, &bench.scratch)?;
            let tracks = daemon.until_tracking(LIMIT)?;
            daemon.until_up(LIMIT)?;
            daemon.wait(LIMIT)?;
            let compared = daemon.age();
            let loaded = daemon.tracking_after_loading()?;
            daemon.stop()?;
            Ok(vec![
                (Moment::EbbtideAfterLoading, loaded),
                (Moment::EbbtideTracks, tracks),
                (Moment::EbbtideCompared, compared),
            ])
        }
        Tool::Inotifywait => {
            let (_running, time) = peers::inotifywait(&source, &bench.scratch, LIMIT)?;
            Ok(vec![(Moment::InotifywaitWatches, time)])
        }
        Tool::Lsyncd => {
            let (_running, time) = peers::lsyncd(&source, &url, &bench.scratch, LIMIT)?;
            Ok(vec![(Moment::LsyncdReady, time)])
        }
    }
}

impl Moment {
    fn word(self) -> &'static str {
        match self {
            Self::EbbtideAfterLoading => "ebbtide-tracks-after-loading",
            Self::EbbtideTracks => "ebbtide-tracks",
            Self::EbbtideCompared => "ebbtide-compared",
            Self::InotifywaitWatches => "inotifywait-watches",
            Self::LsyncdReady => "lsyncd-ready",
        }
    }
}

fn report(all: &BTreeMap<u64, Times>, run: &mut Run) {
    let heading = ["files", "ebbtide", "programs loaded", "inotifywait -mr", "ratio", "lsyncd", "ratio"];
    let mut noticed = Table::new(1, &heading);
    let mut compared = Table::new(1, &["files", "ebbtide", "lsyncd", "ratio"]);
    for (files, times) in all {
        let at = |moment: Moment| times.get(&moment).map_or(0.0, |values| median(values));
        let show = |moment| time(Duration::from_secs_f64(at(moment) / 1e3));
        let than = |theirs, ours| ratio(at(theirs), at(ours));
        noticed.row(vec![
            count(*files),
            show(Moment::EbbtideTracks),
            show(Moment::EbbtideAfterLoading),
            show(Moment::InotifywaitWatches),
            than(Moment::InotifywaitWatches, Moment::EbbtideTracks),
            show(Moment::LsyncdReady),
            than(Moment::LsyncdReady, Moment::EbbtideTracks),
        ]);
        compared.row(vec![
            count(*files),
            show(Moment::EbbtideCompared),
            show(Moment::LsyncdReady),
            than(Moment::LsyncdReady, Moment::EbbtideCompared),
        ]);
    }
    run.table("from the start of the process until changes are noticed", &noticed);
    run.say(
        " programs loaded: by ebbtide's own clock, without the time for loading its programs; whole milliseconds.",
    );
    run.table("from the start of the process until source and (equal) destination were compared", &compared);
    run.say(" Medians over the rounds; caches warm.");
}
