//! What a client has written and seen, carried by itself from request to request.

use std::io;
use std::path::Path;

use anabranch_env::{Env, OpenMode};
use anabranch_model::{Session, TokenKey, TokenSeal, content_hash};
use anabranch_runtime::Time;
use axum::http::{HeaderMap, HeaderValue};

use crate::problem::Problem;
use crate::server::Shared;

/// The header that holds a token, both ways.
pub const TOKEN_HEADER: &str = "anabranch-token";

/// The header that says what a query does when the view is behind: `wait=5s`, `fail` or
/// `stale`.
pub const POLICY_HEADER: &str = "anabranch-policy";

/// The header that says `true` when an answer lacks something that the client has seen.
pub const STALE_HEADER: &str = "anabranch-stale";

/// Where the secret of a log's tokens is kept.
pub(crate) const KEY_FILE: &str = "token.key";

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
    const FRESH: &str = "token.key.new";
    let path = dir.join(KEY_FILE);
    let mut secret = [0; 32];
    if env.disk.exists(&path)? {
        let file = env.disk.open(&path, OpenMode::Read)?;
        file.read_exact_at(&mut secret, 0)?;
        return Ok(seal_of(secret));
    }
    for part in secret.chunks_mut(8) {
        part.copy_from_slice(&env.rng.next_u64().to_be_bytes());
    }
    // Written apart and renamed, so that half a secret is never read.
    let fresh = dir.join(FRESH);
    if env.disk.exists(&fresh)? {
        env.disk.remove(&fresh)?;
    }
    let file = env.disk.open(&fresh, OpenMode::Create)?;
    file.write_all_at(&secret, 0)?;
    file.sync_data()?;
    env.disk.rename(&fresh, &path)?;
    env.disk.sync_dir(dir)?;
    Ok(seal_of(secret))
}

fn seal_of(secret: [u8; 32]) -> TokenSeal {
    // One secret belongs to one log, so it names the log too.
    let domain = content_hash([&b"token domain"[..], &secret]) as u64;
    TokenSeal::new(domain, 0, TokenKey { id: 1, secret })
}

/// The session of a request; one without a token has done nothing.
pub(crate) async fn session_of(shared: &Shared, headers: &HeaderMap) -> Result<Session, Problem> {
    let Some(token) = headers.get(TOKEN_HEADER) else {
        return Ok(Session::new());
    };
    let token = token
        .to_str()
        .map_err(|_| Problem::bad_request("bad-token", "Anabranch-Token: this is no token"))?;
    let session = shared.seal.open(token)?;
    session.check_within(&shared.log.head().await?)?;
    Ok(session)
}

/// The header of an answer to this session.
pub(crate) fn header_of(shared: &Shared, session: &Session) -> Result<HeaderValue, Problem> {
    HeaderValue::from_str(&shared.seal.seal(session))
        .map_err(|_| Problem::internal("the token has no header form"))
}
