//! What seals the tokens of a log, and names the log.

use std::io;
use std::path::Path;

use anabranch_env::{Env, OpenMode};
use anabranch_model::{TokenKey, TokenSeal, content_hash};
use anabranch_runtime::Time;

/// Where the secret of a log's tokens is kept.
pub(crate) const KEY_FILE: &str = "token.key";

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
/// alone, so that tokens outlive the process.
pub fn token_key(env: &Env, dir: &Path) -> io::Result<TokenSeal> {
    Ok(seal_of(kept(env, dir, KEY_FILE)?))
}

/// The secret that a service registers by: it is kept in this directory of the service's own,
/// readable by the owner alone. So a service that was killed takes over from itself at once.
pub fn lease_secret(env: &Env, dir: &Path) -> io::Result<String> {
    let secret = kept(env, dir, LEASE_FILE)?;
    Ok(secret.iter().map(|byte| format!("{byte:02x}")).collect())
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

/// By which name requests and answers know the log.
pub(crate) fn log_name(seal: &TokenSeal) -> String {
    format!("{:016x}", seal.domain())
}
