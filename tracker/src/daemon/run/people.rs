//! What people ask of a running daemon: pause, resume, release.

use ebbtide_feed::{MirrorId, MirrorSpec, ToSender};

use super::Daemon;
use crate::control::{Answer, ClientId, Pick};

impl Daemon {
    /// Stops what is sent to the destinations that this means, or lets it go on. It is remembered.
    pub(super) fn hold(&mut self, client: ClientId, pick: &Pick, paused: bool) {
        let picked = self.pick(pick);
        let mut said = Vec::new();
        for (mirror, at) in picked {
            let to = &mut self.start.mirrors[mirror as usize].destinations[at];
            let word = if paused { "paused" } else { "resumed" };
            let already = if to.paused == paused { " already" } else { "" };
            said.push(format!("{word}{already}: {}", to.url));
            to.paused = paused;
            // The cast is lossless: destinations are counted in thousands.
            self.tell(ToSender::Pause { mirror, destination: at as u32, paused });
        }
        said.iter().for_each(|line| tracing::info!("{line}"));
        self.keep_notes();
        self.say(client, said);
    }

    /// Lets go the removals that are held at the destinations that this means, and takes a source directory that is
    /// another one now for the right one.
    pub(super) fn release(&mut self, client: ClientId, pick: &Pick) {
        let mut said = Vec::new();
        for (mirror, at) in self.pick(pick) {
            let url = &self.start.mirrors[mirror as usize].destinations[at].url;
            said.push(format!("released: {url}"));
            // The cast is lossless: see `hold`.
            self.tell(ToSender::Release { mirror, destination: at as u32 });
        }
        said.extend(self.accept_roots(pick));
        said.iter().for_each(|line| tracing::info!("{line}"));
        self.say(client, said);
    }

    /// The destinations that this means, by mirror and position.
    fn pick(&self, pick: &Pick) -> Vec<(MirrorId, usize)> {
        let mut picked = Vec::new();
        for (mirror, spec) in (0..).zip(&self.start.mirrors) {
            let means = |to: &&str| pick.to.as_ref().is_none_or(|wanted| same_url(wanted, to));
            if means_mirror(pick, spec) {
                let urls = spec.destinations.iter().map(|to| to.url.as_str()).enumerate();
                picked.extend(urls.filter(|(_, to)| means(to)).map(|(at, _)| (mirror, at)));
            }
        }
        picked
    }

    fn say(&mut self, client: ClientId, said: Vec<String>) {
        let answer = if said.is_empty() {
            let message = "no mirror or destination is called that".to_owned();
            Answer::Error { message }
        } else {
            Answer::Done { said }
        };
        self.answer(client, &answer);
    }

    pub(super) fn tell(&mut self, message: ToSender) {
        // One that is not started yet gets it with its start.
        if let Some(sender) = &mut self.sender {
            sender.send(message);
        }
    }
}

/// Whether a mirror is meant: by its source, or by none.
pub(super) fn means_mirror(pick: &Pick, spec: &MirrorSpec) -> bool {
    let trimmed =
        |path: &str| if path.len() > 1 { path.trim_end_matches('/').to_owned() } else { path.to_owned() };
    let source = spec.source.to_string_lossy();
    pick.mirror.as_ref().is_none_or(|wanted| trimmed(wanted) == trimmed(&source))
}

fn same_url(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}
