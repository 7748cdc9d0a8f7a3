//! What seals the tokens of a log, and names the log.

use std::io;
use std::path::Path;

use anabranch_env::{Env, OpenMode};
use anabranch_model::{TokenKey, TokenSeal, content_hash};
use anabranch_runtime::Time;

use crate::earlier::read_cuts;

/// Where the secret of a log's tokens is kept.
pub(crate) const KEY_FILE: &str = "token.key";

/// What stands in a shared key before the number of the log's layout.
const LAYOUT_MARK: char = '.';

/// Where the secret of a service's lease is kept.
const LEASE_FILE: &str = "lease.key";

/// A seal that is good for as long as this process lives.
pub(crate) fn passing_seal(time: &Time) -> TokenSeal {
    let mut secret = [0; 32];
    secret[..16].copy_from_slice(&time.random().to_be_bytes());
    secret[16..].copy_from_slice(&time.random().to_be_bytes());
    seal_of(secret)
}

/// The seal of the log in this directory: its secret is kept there, readable by the owner
/// alone, so that tokens outlive the process. Tokens of the layouts that the log had before are read
/// by what stands beside it.
pub fn token_key(env: &Env, dir: &Path) -> io::Result<TokenSeal> {
    let seal = seal_of(kept(env, dir, KEY_FILE)?);
    let mut earlier = Vec::new();
    while let Some(map) = read_cuts(env, dir, earlier.len() as u32 + 1)? {
        earlier.push(map);
    }
    Ok(seal.after(earlier))
}

/// The seal of the log at whose server a service has registered, from what its lease says
/// (`anabranch_log_remote::Lease::token_key`). `None`: it does not say what tokens are sealed with.
pub fn shared_seal(token_key: &str) -> Option<TokenSeal> {
    let (token_key, epoch) = match token_key.split_once(LAYOUT_MARK) {
        Some((key, epoch)) => (key, epoch.parse().ok()?),
        None => (token_key, 0),
    };
    let digits = token_key.as_bytes();
    let mut secret = [0; 32];
    if digits.len() != 2 * secret.len() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, at) in secret.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&token_key[at..at + 2], 16).ok()?;
    }
    let seal = seal_of(secret);
    let (domain, key) = (seal.domain(), seal.key().clone());
    Some(TokenSeal::new(domain, epoch, key))
}

/// What a service is told that has registered, so that its tokens are those of this log.
pub(crate) fn to_share(seal: &TokenSeal) -> String {
    let key = hex(&seal.key().secret);
    match seal.epoch() {
        0 => key,
        // Who does not know of layouts takes it for no key, and seals no tokens.
        epoch => format!("{key}{LAYOUT_MARK}{epoch}"),
    }
}

fn hex(secret: &[u8; 32]) -> String {
    secret.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The secret that a service registers by: it is kept in this directory of the service's own,
/// readable by the owner alone. So a service that was killed takes over from itself at once.
pub fn lease_secret(env: &Env, dir: &Path) -> io::Result<String> {
    Ok(hex(&kept(env, dir, LEASE_FILE)?))
}

/// A secret that is kept in a file, which is made if it is not there.
fn kept(env: &Env, dir: &Path, name: &str) -> io::Result<[u8; 32]> {
    let path = dir.join(name);
    let mut secret = [0; 32];
    if env.disk.exists(&path)? {
        let file = env.disk.open(&path, OpenMode::Read)?;
        file.read_exact_at(&mut secret, 0)?;
        return Ok(secret);
    }
    for part in secret.chunks_mut(8) {
        part.copy_from_slice(&env.rng.next_u64().to_be_bytes());
    }
    // Written apart and renamed, so that half a secret is never read.
    let fresh = dir.join(format!("{name}.new"));
    if env.disk.exists(&fresh)? {
        env.disk.remove(&fresh)?;
    }
    let file = env.disk.open(&fresh, OpenMode::Create)?;
    file.write_all_at(&secret, 0)?;
    file.sync_data()?;
    env.disk.rename(&fresh, &path)?;
    env.disk.sync_dir(dir)?;
    Ok(secret)
}

fn seal_of(secret: [u8; 32]) -> TokenSeal {
    // One secret belongs to one log, so it names the log too.
    let domain = content_hash([&b"token domain"[..], &secret]) as u64;
    TokenSeal::new(domain, 0, TokenKey { id: 1, secret })
}

/// By which name requests and answers know the log. In another layout its places are others, so its
/// name is too.
pub(crate) fn log_name(seal: &TokenSeal) -> String {
    format!(
        "{:016x}",
        seal.domain().wrapping_add(u64::from(seal.epoch()))
    )
}

#[cfg(test)]
mod tests {
    use anabranch_env::sim;
    use anabranch_model::{Cut, CutMap, PartitionId, Session};

    use super::*;
    use crate::earlier::write_cuts;

    #[test]
    fn the_key_that_is_shared_says_the_layout_and_the_name_of_the_log_is_another() {
        let (env, _, _) = sim::env(1);
        let dir = Path::new("/log");
        env.disk.create_dir(dir).unwrap();
        let first = token_key(&env, dir).unwrap();
        let mut session = Session::new();
        session.wrote(&Cut::at(4));
        let token = first.seal(&session);
        let mut map = CutMap::new(8);
        let closure = Cut::including("3:7".parse().unwrap());
        map.note(PartitionId(0), 4, &Cut::start(), &closure);
        write_cuts(&env, dir, 1, &map).unwrap();
        let second = token_key(&env, dir).unwrap();
        assert_eq!(second.epoch(), 1);
        assert_eq!(second.open(&token).unwrap().seen(), &closure);
        assert_ne!(log_name(&first), log_name(&second));
        for seal in [&first, &second] {
            let shared = shared_seal(&to_share(seal)).unwrap();
            assert_eq!(shared.seal(&session), seal.seal(&session));
            assert_eq!(log_name(&shared), log_name(seal));
        }
        assert!(shared_seal(&format!("{}x", to_share(&second))).is_none());
    }
}
