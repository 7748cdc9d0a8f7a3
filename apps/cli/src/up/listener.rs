//! Who listens at a port of this machine, as Linux tells it: whoever answers there need not be the service
//! that was started.

#![expect(
    clippy::disallowed_methods,
    reason = "this is about files of the system, which only it writes"
)]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// The process that listens at this address of this machine, if it is certain that it is none of the group
/// of processes whose first one is `leader`. `None`: it is one of them, or nobody can tell.
pub fn stranger_at(url: &str, leader: u32) -> Option<u32> {
    let (hosts, port) = place_of(url)?;
    let mut sockets = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let table = fs::read_to_string(table).unwrap_or_default();
        sockets.extend(listening(&table, &hosts, port));
    }
    let mut stranger = None;
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if !holds_one(&process.path(), &sockets) {
            continue;
        }
        let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        match group_of(&stat) {
            Some(group) if group == leader => return None,
            Some(_) => stranger = Some(pid),
            // It has just ended.
            None => {}
        }
    }
    stranger
}

/// Where on this machine an address leads, and to which port; `None`: it is elsewhere.
fn place_of(url: &str) -> Option<(Vec<IpAddr>, u16)> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let authority = rest.split('/').next()?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, if scheme == "https" { 443 } else { 80 }),
    };
    if host == "localhost" {
        let both = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Some((both.to_vec(), port));
    }
    let host: IpAddr = host.trim_matches(['[', ']']).parse().ok()?;
    let host = host.to_canonical();
    host.is_loopback().then(|| (vec![host], port))
}

/// The sockets that are reached at one of these addresses and this port, in a table such as
/// `/proc/net/tcp`.
fn listening(table: &str, hosts: &[IpAddr], port: u16) -> Vec<String> {
    const LISTENS: &str = "0A";
    let of_line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (host, at) = words.get(1)?.rsplit_once(':')?;
        let listens = *words.get(3)? == LISTENS;
        if !listens || u16::from_str_radix(at, 16) != Ok(port) {
            return None;
        }
        let host = address_of(host)?;
        let is_it = hosts.iter().any(|wanted| is_reached(host, *wanted));
        is_it.then(|| format!("socket:[{}]", words.get(9).unwrap_or(&"")))
    };
    table.lines().filter_map(of_line).collect()
}

/// Whether who listens there is reached at this address. Who listens everywhere by IPv6 does so by IPv4
/// too, unless it has said otherwise.
fn is_reached(there: IpAddr, wanted: IpAddr) -> bool {
    let everywhere = there.is_unspecified() && (there.is_ipv6() || wanted.is_ipv4());
    everywhere || there == wanted
}

/// An address as the tables have it: words of 32 bits, each as this machine keeps numbers.
fn address_of(text: &str) -> Option<IpAddr> {
    let mut bytes = Vec::new();
    for at in (0..text.len()).step_by(8) {
        let word = u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let address: IpAddr = match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok()?.into(),
        _ => <[u8; 16]>::try_from(bytes).ok()?.into(),
    };
    Some(address.to_canonical())
}

/// Whether a process has one of these sockets open; that of somebody else does not tell.
fn holds_one(process: &Path, sockets: &[String]) -> bool {
    let Ok(open) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    open.flatten().any(|file| {
        let target = fs::read_link(file.path()).unwrap_or_default();
        sockets.iter().any(|socket| target == Path::new(socket))
    })
}

/// The group of a process, from its `stat`.
fn group_of(stat: &str) -> Option<u32> {
    // Its name may have spaces and brackets.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn tables_of_the_system_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1CE8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n\
             1: 0100007F:1CE8 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n";
        let here = [IpAddr::from([127, 0, 0, 1])];
        assert_eq!(listening(table, &here, 7400), ["socket:[4711]"]);
        assert!(listening(table, &here, 7401).is_empty());
        assert_eq!(group_of("7 (a b) c) S 1 42 42 0"), Some(42));
        assert_eq!(group_of(""), None);
    }

    #[test]
    fn only_addresses_of_this_machine_are_looked_at() {
        let port_of = |url| place_of(url).map(|(_, port)| port);
        assert_eq!(port_of("http://127.0.0.1:7400/readyz"), Some(7400));
        assert_eq!(port_of("https://localhost"), Some(443));
        assert_eq!(port_of("http://[::1]:80"), Some(80));
        assert_eq!(port_of("http://db.example:80"), None);
        assert_eq!(port_of("http://127.db.example:80"), None);
        assert_eq!(port_of("http://192.0.2.1:80"), None);
        assert_eq!(port_of("http://127.0.0.1:x"), None);
    }

    #[test]
    fn who_listens_at_the_same_port_of_another_address_is_not_meant() {
        let line = |address: &str| format!(" 0: {address}:1CE8 0:0 0A 0:0 00:0 0 0 0 9 1");
        for (address, url, is_meant) in [
            ("0100007F", "http://127.0.0.1:7400", true),
            ("0200007F", "http://127.0.0.1:7400", false),
            ("0200007F", "http://127.0.0.2:7400", true),
            ("00000000", "http://127.0.0.2:7400", true),
            ("00000000", "http://[::1]:7400", false),
            ("0100007F", "http://[::1]:7400", false),
            ("0100007F", "http://localhost:7400", true),
            (
                "00000000000000000000000001000000",
                "http://[::1]:7400",
                true,
            ),
            (
                "00000000000000000000000001000000",
                "http://localhost:7400",
                true,
            ),
            (
                "00000000000000000000000001000000",
                "http://127.0.0.1:7400",
                false,
            ),
            (
                "00000000000000000000000000000000",
                "http://127.0.0.1:7400",
                true,
            ),
            (
                "0000000000000000FFFF00000100007F",
                "http://127.0.0.1:7400",
                true,
            ),
        ] {
            let (hosts, port) = place_of(url).unwrap();
            let found = listening(&line(address), &hosts, port);
            assert_eq!(!found.is_empty(), is_meant, "{address} {url}");
        }
    }

    #[test]
    fn whoever_listens_here_is_no_process_of_another_group() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        assert_eq!(stranger_at(&url, u32::MAX), Some(std::process::id()));
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        assert_eq!(stranger_at(&url, group_of(&stat).unwrap()), None);
        drop(listener);
        assert_eq!(stranger_at(&url, u32::MAX), None);
    }
}
