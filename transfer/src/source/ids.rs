//! Names of users and groups, asked for once in a while.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

type Names = Mutex<Option<HashMap<u32, (Instant, Option<Vec<u8>>)>>>;

static USERS: Names = Mutex::new(None);
static GROUPS: Names = Mutex::new(None);

/// After this time a name is asked for again: it may live in a directory service, and it may change.
const FRESH: Duration = Duration::from_secs(60);

/// The user's name in this host's user database, if there is one.
pub fn user_name(uid: u32) -> Option<Vec<u8>> {
    cached(&USERS, uid, |uid| Some(uzers::get_user_by_uid(uid)?.name().as_bytes().to_vec()))
}

/// The group's name in this host's group database, if there is one.
pub fn group_name(gid: u32) -> Option<Vec<u8>> {
    cached(&GROUPS, gid, |gid| Some(uzers::get_group_by_gid(gid)?.name().as_bytes().to_vec()))
}

fn cached(names: &Names, id: u32, ask: fn(u32) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
    let names = names.get_or_insert_default();
    match names.get(&id) {
        Some((since, name)) if since.elapsed() < FRESH => name.clone(),
        _ => {
            let name = ask(id);
            names.insert(id, (Instant::now(), name.clone()));
            name
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_a_name_and_an_unused_id_has_none() {
        assert_eq!(user_name(0).as_deref(), Some(&b"root"[..]));
        assert_eq!(group_name(0).as_deref(), Some(&b"root"[..]));
        assert_eq!(user_name(3_999_999_999), None);
    }
}
