//! Where a server may listen.

use thiserror::Error;

/// How a server is set up to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Doors {
    /// Whether callers have to show a key.
    pub auth: bool,
    /// Whether somebody has said that they know what an open door means.
    pub insecure: bool,
}

/// Who can reach an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// This machine alone.
    Loopback,
    /// Other machines too.
    Network,
}

/// How bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// As they are.
    Plain,
    /// Encrypted, by a server that has proved who it is.
    Tls,
}

/// How a server that may listen is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// Nobody but this machine reaches it.
    Local,
    /// Others reach it, and it asks who they are, behind encryption.
    Guarded,
    /// Others reach it, and something is missing: whoever started it has taken that upon themselves.
    Insecure,
}

/// A server may not listen there. Nothing was opened.
#[derive(Clone, PartialEq, Eq, Error)]
#[error(
    "{address} can be reached from other machines, and {missing}; listen at a loopback address such as 127.0.0.1, or add what is missing, or, if the network itself is safe, add --insecure-i-understand"
)]
pub struct Exposed {
    /// Where it would have listened.
    pub address: String,
    missing: &'static str,
}

anabranch_model::debug_is_words!(Exposed);

/// Whether a server may listen at an address that so many can reach: beyond this machine only if it asks
/// who calls, and what it says cannot be read on the way.
pub fn may_listen(
    address: &str,
    reach: Reach,
    transport: Transport,
    doors: Doors,
) -> Result<Listening, Exposed> {
    let missing = match (doors.auth, transport) {
        (true, Transport::Tls) => None,
        (true, Transport::Plain) => Some(
            "what is said can be read on the way: it needs TLS (--tls-cert and --tls-key) beside --auth",
        ),
        (false, Transport::Tls) => Some("nobody is asked who they are: it needs --auth beside TLS"),
        (false, Transport::Plain) => Some(
            "nobody is asked who they are and nothing is encrypted: it needs --auth and TLS (--tls-cert and --tls-key)",
        ),
    };
    match (reach, missing, doors.insecure) {
        (Reach::Loopback, _, _) => Ok(Listening::Local),
        (Reach::Network, None, _) => Ok(Listening::Guarded),
        (Reach::Network, Some(_), true) => Ok(Listening::Insecure),
        (Reach::Network, Some(missing), false) => Err(Exposed {
            address: address.to_owned(),
            missing,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_listens_beyond_this_machine_without_keys_and_encryption_unless_they_insist() {
        let mut seen = 0;
        for reach in [Reach::Loopback, Reach::Network] {
            for transport in [Transport::Plain, Transport::Tls] {
                for auth in [false, true] {
                    for insecure in [false, true] {
                        let doors = Doors { auth, insecure };
                        let said = may_listen("0.0.0.0:7400", reach, transport, doors);
                        let is_safe = auth && transport == Transport::Tls;
                        let expected = match (reach, is_safe, insecure) {
                            (Reach::Loopback, _, _) => Some(Listening::Local),
                            (_, true, _) => Some(Listening::Guarded),
                            (_, false, true) => Some(Listening::Insecure),
                            (_, false, false) => None,
                        };
                        if let Err(error) = &said {
                            let words = error.to_string();
                            for part in ["0.0.0.0:7400", "--auth", "TLS", "--insecure-i-understand"]
                            {
                                assert!(words.contains(part), "{words}");
                            }
                        }
                        assert_eq!(said.ok(), expected, "{reach:?} {transport:?} {doors:?}");
                        seen += 1;
                    }
                }
            }
        }
        assert_eq!(seen, 16);
    }
}
