//! Tokens: what a client has written and seen, as an opaque text it hands back.

use std::fmt;
use std::sync::Arc;

use crate::cut_map::CutMap;
use crate::place::{Cut, PartitionId};
use crate::token_error::TokenError;

/// What a client has done so far, as two cuts of the log; `deps` is never beyond `seen`.
///
/// Every cut that goes in is closed: it includes whatever its events depend on. So a session
/// names a causal cut of the whole log, even if the client has only met two partitions of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Session {
    deps: Cut,
    seen: Cut,
}

impl Session {
    /// A client that has done nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// What its next write depends on.
    pub fn deps(&self) -> &Cut {
        &self.deps
    }

    /// What its next read has to include.
    pub fn seen(&self) -> &Cut {
        &self.seen
    }

    /// It has written. `closure` is the write and everything that the stream it went to
    /// depended on: the handler has read that stream, so the client depends on it too.
    pub fn wrote(&mut self, closure: &Cut) {
        self.deps.join(closure);
        self.seen.join(closure);
    }

    /// It has read from a view that showed `cut`, whose events depend on `dependencies`. Counts
    /// for an empty answer too: that there was nothing is an observation.
    pub fn read(&mut self, cut: &Cut, dependencies: &Cut) {
        for part in [cut, dependencies] {
            self.deps.join(part);
            self.seen.join(part);
        }
    }

    /// As [`Session::read`], but its next write depends on nothing but what the rows of the
    /// answer depend on: fewer false dependencies, while reads stay monotonic.
    pub fn read_rows(&mut self, cut: &Cut, dependencies: &Cut, rows: &Cut) {
        self.deps.join(rows);
        for part in [cut, dependencies, rows] {
            self.seen.join(part);
        }
    }

    /// Refuses a session that has seen what the log does not have: nobody may wait for that.
    pub fn check_within(&self, head: &Cut) -> Result<(), TokenError> {
        match self.seen.iter().find(|&(p, count)| head.get(p) < count) {
            None => Ok(()),
            Some((partition, count)) => Err(TokenError::BeyondHead {
                partition,
                count,
                head: head.get(partition),
            }),
        }
    }
}

/// Makes tokens of sessions and sessions of tokens.
///
/// A token is opaque, versioned and tamper-evident: base64url of
///
/// ```text
/// token := version:u8=1 key:u8 domain:u64 epoch:varint seen:cut deps:cut mac:16 bytes
/// cut   := varint(entries) { varint(partition - partition before) varint(count) }
/// ```
///
/// with big-endian integers, LEB128 varints and partitions ascending. The MAC is keyed BLAKE3
/// over all before it, truncated to 128 bits. It protects against invention, not against
/// reading: a token says how long a log is, and nothing else.
#[derive(Clone)]
pub struct TokenSeal {
    domain: u64,
    epoch: u32,
    keys: Vec<TokenKey>,
    /// How the cuts of each earlier layout are read in the one after it, the oldest first; or none.
    earlier: Arc<[CutMap]>,
}

/// A secret that tokens are sealed with, and the number that says which one it is.
#[derive(Clone)]
pub struct TokenKey {
    /// Which key it is.
    pub id: u8,
    /// The secret.
    pub secret: [u8; 32],
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({})", self.id)
    }
}

impl fmt::Debug for TokenSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSeal")
            .field("domain", &self.domain)
            .field("epoch", &self.epoch)
            .field("keys", &self.keys)
            .finish()
    }
}

const VERSION: u8 = 1;
const MAC_BYTES: usize = 16;
/// The longest token that is looked at, in characters: some three hundred partitions.
pub const TOKEN_CHARS_MAX: usize = 8192;

impl TokenSeal {
    /// Seals tokens of the log `domain`, whose map of partitions has number `epoch`, with `key`.
    pub fn new(domain: u64, epoch: u32, key: TokenKey) -> Self {
        Self {
            domain,
            epoch,
            keys: vec![key],
            earlier: Arc::default(),
        }
    }

    /// Accepts tokens of earlier layouts of the log too. These say how the cuts of each are read in the
    /// one after it, the oldest first; so the layout of today has their count as its number.
    #[must_use]
    pub fn after(mut self, earlier: Vec<CutMap>) -> Self {
        self.epoch = earlier.len() as u32;
        self.earlier = earlier.into();
        self
    }

    /// The number of the layout of its tokens: how many the log had before.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The log whose tokens it seals.
    pub fn domain(&self) -> u64 {
        self.domain
    }

    /// What it seals with.
    pub fn key(&self) -> &TokenKey {
        &self.keys[0]
    }

    /// Accepts tokens sealed with this key too: one that was in use before.
    #[must_use]
    pub fn also_accepting(mut self, key: TokenKey) -> Self {
        self.keys.push(key);
        self
    }

    /// The token of a session.
    pub fn seal(&self, session: &Session) -> String {
        let key = self.key();
        let mut bytes = vec![VERSION, key.id];
        bytes.extend_from_slice(&self.domain.to_be_bytes());
        put_varint(&mut bytes, u64::from(self.epoch));
        put_cut(&mut bytes, &session.seen);
        put_cut(&mut bytes, &session.deps);
        let mac = mac(key, &bytes);
        bytes.extend_from_slice(&mac.as_bytes()[..MAC_BYTES]);
        to_base64(&bytes)
    }

    /// The session of a token. One of an earlier layout has seen at least what it had seen there.
    ///
    /// # Errors
    ///
    /// It is no token of this log, or nothing here says how to read it.
    pub fn open(&self, token: &str) -> Result<Session, TokenError> {
        let (found, Session { deps, seen }) = self.read(token)?;
        let (deps, seen) = (self.now(found, deps)?, self.now(found, seen)?);
        Ok(Session { deps, seen })
    }

    /// The session of a token of the layout that the log has now: where somebody reads on from it,
    /// more than it had seen would be passed over.
    ///
    /// # Errors
    ///
    /// It is no token of this log, or is of an earlier layout.
    pub fn open_place(&self, token: &str) -> Result<Session, TokenError> {
        let (found, session) = self.read(token)?;
        match found == self.epoch {
            true => Ok(session),
            false => Err(self.older(found)),
        }
    }

    fn older(&self, found: u32) -> TokenError {
        let known = self.epoch;
        TokenError::OlderEpoch { found, known }
    }

    /// A cut of the layout with this number, as one of the layout of now.
    fn now(&self, found: u32, mut cut: Cut) -> Result<Cut, TokenError> {
        if found < self.epoch && self.earlier.is_empty() {
            return Err(self.older(found));
        }
        for map in self.earlier.iter().skip(found as usize) {
            cut = map.round_up(&cut)?;
        }
        Ok(cut)
    }

    /// Which layout a token knows, and its session in that.
    fn read(&self, token: &str) -> Result<(u32, Session), TokenError> {
        if token.len() > TOKEN_CHARS_MAX {
            return Err(TokenError::Malformed("it is too long"));
        }
        let bytes = from_base64(token).ok_or(TokenError::Malformed("it is not base64url"))?;
        let body_len = bytes
            .len()
            .checked_sub(MAC_BYTES)
            .ok_or(TokenError::Malformed("it is too short"))?;
        let (body, given) = bytes.split_at(body_len);
        let mut rest = body;
        let version = take::<1>(&mut rest)?[0];
        if version != VERSION {
            return Err(TokenError::NewerVersion(version));
        }
        let id = take::<1>(&mut rest)?[0];
        let key = self.keys.iter().find(|key| key.id == id);
        let key = key.ok_or(TokenError::UnknownKey(id))?;
        if mac(key, body) != padded(given) {
            return Err(TokenError::Forged);
        }
        // From here on the bytes are ours; what does not fit is a fault of ours, and is said.
        if u64::from_be_bytes(take::<8>(&mut rest)?) != self.domain {
            return Err(TokenError::OtherDomain);
        }
        let found = u32::try_from(take_varint(&mut rest)?)
            .map_err(|_| TokenError::Malformed("its partition map has no number"))?;
        if found > self.epoch {
            return Err(TokenError::NewerEpoch {
                found,
                known: self.epoch,
            });
        }
        let seen = take_cut(&mut rest)?;
        let deps = take_cut(&mut rest)?;
        if !rest.is_empty() || !seen.covers(&deps) {
            return Err(TokenError::Malformed("its parts do not fit together"));
        }
        Ok((found, Session { deps, seen }))
    }
}

/// The MAC, in the first half; the rest is zero. Comparing two takes the same time whatever
/// they hold, which `blake3::Hash` promises.
fn mac(key: &TokenKey, body: &[u8]) -> blake3::Hash {
    padded(&blake3::keyed_hash(&key.secret, body).as_bytes()[..MAC_BYTES])
}

fn padded(half: &[u8]) -> blake3::Hash {
    let mut whole = [0; blake3::OUT_LEN];
    whole[..half.len()].copy_from_slice(half);
    blake3::Hash::from_bytes(whole)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_cut(out: &mut Vec<u8>, cut: &Cut) {
    put_varint(out, cut.iter().count() as u64);
    let mut before = 0;
    for (partition, count) in cut.iter() {
        put_varint(out, u64::from(partition.0 - before));
        put_varint(out, count);
        before = partition.0;
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], TokenError> {
    let (taken, rest) = bytes
        .split_first_chunk::<N>()
        .ok_or(TokenError::Malformed("it ends early"))?;
    *bytes = rest;
    Ok(*taken)
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, TokenError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take::<1>(bytes)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(TokenError::Malformed("a number is too long"))
}

fn take_cut(bytes: &mut &[u8]) -> Result<Cut, TokenError> {
    let mut cut = Cut::start();
    let mut partition = 0_u32;
    for _ in 0..take_varint(bytes)? {
        partition = u32::try_from(take_varint(bytes)?)
            .ok()
            .and_then(|step| partition.checked_add(step))
            .ok_or(TokenError::Malformed("it names no partition"))?;
        cut.set(PartitionId(partition), take_varint(bytes)?);
    }
    Ok(cut)
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Base64url without padding (RFC 4648, section 5).
fn to_base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for i in 0..=chunk.len() {
            out.push(char::from(ALPHABET[(bits >> (18 - 6 * i)) as usize & 63]));
        }
    }
    out
}

/// Exact: a text that [`to_base64`] would not write is no base64, so that each token has one
/// form only.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for chunk in text.as_bytes().chunks(4) {
        let mut bits = 0;
        for (i, c) in chunk.iter().enumerate() {
            let value = ALPHABET.iter().position(|a| a == c)? as u32;
            bits |= value << (18 - 6 * i);
        }
        let len = match chunk.len() {
            4 => 3,
            3 if bits & 0xff == 0 => 2,
            2 if bits & 0xffff == 0 => 1,
            _ => return None,
        };
        out.extend_from_slice(&bits.to_be_bytes()[1..=len]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal() -> TokenSeal {
        TokenSeal::new(7, 3, key(1))
    }

    fn key(id: u8) -> TokenKey {
        TokenKey {
            id,
            secret: [id; 32],
        }
    }

    fn cut(entries: &[(u32, u64)]) -> Cut {
        let mut cut = Cut::start();
        for &(partition, count) in entries {
            cut.set(PartitionId(partition), count);
        }
        cut
    }

    fn session() -> Session {
        let mut session = Session::new();
        session.wrote(&cut(&[(0, 5), (3, 300)]));
        session.read_rows(&cut(&[(1, 9)]), &cut(&[(70_000, 1)]), &Cut::start());
        session
    }

    #[test]
    fn a_token_gives_back_its_session() {
        let token = seal().seal(&session());
        assert_eq!(seal().open(&token), Ok(session()));
        assert_eq!(
            seal().open(&seal().seal(&Session::new())),
            Ok(Session::new())
        );
    }

    /// Clients hold tokens over an upgrade, so their form may not change within version 1.
    #[test]
    fn the_form_of_a_token_is_fixed() {
        assert_eq!(
            seal().seal(&session()),
            "AQEAAAAAAAAABwMEAAUBCQKsAu2iBAECAAUDrAKNCk6Q06NOmaQrjFee5HT3"
        );
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let token = seal().seal(&session());
        let bytes = from_base64(&token).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let opened = seal().open(&to_base64(&changed));
            assert!(opened.is_err(), "bit {bit} went unnoticed: {opened:?}");
        }
    }

    #[test]
    fn every_shortened_or_lengthened_token_is_refused() {
        let token = seal().seal(&session());
        for len in 0..token.len() {
            assert!(
                seal().open(&token[..len]).is_err(),
                "{len} characters were taken"
            );
        }
        assert!(seal().open(&format!("{token}A")).is_err());
        let long = "A".repeat(TOKEN_CHARS_MAX + 1);
        assert_eq!(
            seal().open(&long),
            Err(TokenError::Malformed("it is too long"))
        );
    }

    #[test]
    fn a_token_of_another_key_log_or_later_map_is_refused() {
        let token = |seal: TokenSeal| seal.seal(&session());
        let other_secret = TokenKey {
            id: 1,
            secret: [9; 32],
        };
        let cases = [
            (TokenSeal::new(7, 3, other_secret), TokenError::Forged),
            (TokenSeal::new(7, 3, key(2)), TokenError::UnknownKey(2)),
            (TokenSeal::new(8, 3, key(1)), TokenError::OtherDomain),
            (
                TokenSeal::new(7, 4, key(1)),
                TokenError::NewerEpoch { found: 4, known: 3 },
            ),
        ];
        for (other, error) in cases {
            assert_eq!(seal().open(&token(other)), Err(error));
        }
    }

    #[test]
    fn a_token_of_an_earlier_key_is_taken() {
        let old = TokenSeal::new(7, 3, key(1)).seal(&session());
        let new = TokenSeal::new(7, 3, key(2)).also_accepting(key(1));
        assert_eq!(new.open(&old), Ok(session()));
    }

    /// A layout that came after another: of each old partition so many events, which all went to
    /// partition 9.
    fn after(count: u64) -> CutMap {
        let mut map = CutMap::new(8);
        for partition in [0, 1, 3, 9, 70_000] {
            map.note(
                PartitionId(partition),
                count,
                &Cut::start(),
                &cut(&[(9, count + 1)]),
            );
        }
        map
    }

    #[test]
    fn a_token_of_an_earlier_layout_has_seen_at_least_as_much() {
        let plain = TokenSeal::new(7, 0, key(1));
        let old = plain.seal(&session());
        let once = plain.clone().after(vec![after(300)]);
        let opened = once.open(&old).unwrap();
        assert_eq!(
            (opened.seen(), opened.deps()),
            (&cut(&[(9, 301)]), &cut(&[(9, 301)]))
        );
        let twice = plain.clone().after(vec![after(300), after(400)]);
        assert_eq!(twice.open(&old).unwrap().seen(), &cut(&[(9, 401)]));
        let between = once.seal(&opened);
        assert_eq!(twice.open(&between).unwrap().seen(), &cut(&[(9, 401)]));
        assert_eq!(
            plain.open(&between),
            Err(TokenError::NewerEpoch { found: 1, known: 0 })
        );
        // What came to the old log behind the copy is not in the new one.
        let short = plain.clone().after(vec![after(299)]);
        assert!(matches!(
            short.open(&old),
            Err(TokenError::BeyondHead { .. })
        ));
        assert_eq!(once.open(&plain.seal(&Session::new())), Ok(Session::new()));
    }

    #[test]
    fn a_token_of_an_earlier_layout_is_no_place_to_read_on_from() {
        let plain = TokenSeal::new(7, 0, key(1));
        let older = Err(TokenError::OlderEpoch { found: 0, known: 1 });
        let once = plain.clone().after(vec![after(300)]);
        assert_eq!(once.open_place(&plain.seal(&session())), older);
        assert_eq!(once.open_place(&once.seal(&session())), Ok(session()));
        let unknown = TokenSeal::new(7, 1, key(1));
        assert_eq!(unknown.open(&plain.seal(&session())), older);
    }

    #[test]
    fn a_session_beyond_the_head_is_refused() {
        let head = cut(&[(0, 5), (1, 9), (3, 299), (70_000, 1)]);
        assert_eq!(
            session().check_within(&head),
            Err(TokenError::BeyondHead {
                partition: PartitionId(3),
                count: 300,
                head: 299
            })
        );
        assert_eq!(session().check_within(session().seen()), Ok(()));
    }

    #[test]
    fn precise_reads_raise_what_was_seen_but_not_what_writes_depend_on() {
        let mut session = Session::new();
        session.read_rows(&cut(&[(0, 9)]), &cut(&[(1, 4)]), &cut(&[(0, 2)]));
        assert_eq!(session.deps(), &cut(&[(0, 2)]));
        assert_eq!(session.seen(), &cut(&[(0, 9), (1, 4)]));
    }
}
