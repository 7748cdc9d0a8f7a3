//! Who listens at a port of this machine, as Linux tells it: whoever answers there need not be the service
//! that was started.

#![expect(
    clippy::disallowed_methods,
    reason = "this is about files of the system, which only it writes"
)]

use std::fs;
use std::path::Path;

/// The process that listens at this address of this machine, if it is certain that it is none of the group
/// of processes whose first one is `leader`. `None`: it is one of them, or nobody can tell.
pub fn stranger_at(url: &str, leader: u32) -> Option<u32> {
    let port = port_of(url)?;
    let mut sockets = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        sockets.extend(listening(
            &fs::read_to_string(table).unwrap_or_default(),
            port,
        ));
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

/// The port of an address of this machine; `None`: it is elsewhere.
fn port_of(url: &str) -> Option<u16> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let authority = rest.split('/').next()?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, if scheme == "https" { 443 } else { 80 }),
    };
    let is_here = matches!(host, "localhost" | "[::1]") || host.starts_with("127.");
    is_here.then_some(port)
}

/// The sockets that listen at a port, in a table such as `/proc/net/tcp`.
fn listening(table: &str, port: u16) -> Vec<String> {
    const LISTENS: &str = "0A";
    let of_line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (_, at) = words.get(1)?.rsplit_once(':')?;
        let is_it = u16::from_str_radix(at, 16) == Ok(port) && *words.get(3)? == LISTENS;
        is_it.then(|| format!("socket:[{}]", words.get(9).unwrap_or(&"")))
    };
    table.lines().filter_map(of_line).collect()
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
        assert_eq!(listening(table, 7400), ["socket:[4711]"]);
        assert!(listening(table, 7401).is_empty());
        assert_eq!(group_of("7 (a b) c) S 1 42 42 0"), Some(42));
        assert_eq!(group_of(""), None);
    }

    #[test]
    fn only_addresses_of_this_machine_are_looked_at() {
        assert_eq!(port_of("http://127.0.0.1:7400/readyz"), Some(7400));
        assert_eq!(port_of("https://localhost"), Some(443));
        assert_eq!(port_of("http://[::1]:80"), Some(80));
        assert_eq!(port_of("http://db.example:80"), None);
        assert_eq!(port_of("http://127.0.0.1:x"), None);
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
