//! The tree that is sent: looking at entries and reading files, without ever being led out of it.

mod acl;
mod attributes;
mod content;
mod ids;
mod links;
mod map;
mod meta;
mod remove;
mod root;
mod rules;
mod steps;

pub(crate) use attributes::DetailReader;
pub use attributes::{Details, Wanted};
pub use content::{Content, OpenFile};
pub use ids::{group_name, user_name};
pub use links::Links;
pub use map::Map;
pub use meta::{Meta, Time};
pub use root::{Look, Source};
pub(crate) use root::{read_link_in, stat as stat_of, stat_behind, stat_in};
pub use rules::read_named;
pub use steps::Steps;
